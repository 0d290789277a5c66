"""A folder of runs stands for the newest of them."""

import shutil

import pytest
from support.command_runs import QUIET, SHORT, folder, replay, typed

from lit_dcem.cli.main import main

BRIEF = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=2"]  # no validation


def test_phase_2_begins_with_the_newest_run_of_phase_1(tmp_path, monkeypatch):
    """As shipped: `swingup_phase2` names the folder that has the runs of `swingup_phase1`."""
    monkeypatch.chdir(tmp_path)
    main(typed("phase1", *BRIEF))
    newest, older = folder("phase1", version=10), folder("phase1", version=9)
    folder("phase1").rename(newest)
    shutil.copytree(newest, older)
    for path in (older / "checkpoints/last.ckpt", *older.glob("replay/*/*")):
        path.write_bytes(b"broken")  # reading it would fail
    main(["fit", "--config=swingup_phase2", "--config=debug", *QUIET, *SHORT, *BRIEF])
    (episodes,), (begun_with,) = replay(newest).values(), replay(folder("phase2")).values()
    assert episodes and begun_with.startswith(episodes)


@pytest.mark.parametrize("option", ["--model.start", "--data.initial_replay"])
def test_no_older_run_takes_the_place_of_the_newest_that_was_killed_in_its_first_epoch(option, here_with_two, capsys):
    whole, killed = here_with_two
    phase2 = ["fit", "--config=swingup_phase2", "--config=debug", *QUIET, *SHORT, *BRIEF]
    others = [f"--model.start={whole}"] if option == "--data.initial_replay" else []
    with pytest.raises(SystemExit) as exit_:
        main([*phase2, *others, f"{option}={whole.parent}"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert exit_.value.code == 2
    rule = "A folder of runs stands for the newest, which must have a last.ckpt"
    assert error.endswith(f"{rule}, got {killed}; to take an older one, name it: {whole}.")


def test_a_folder_of_runs_is_not_measured_by_an_older_one(here_with_two, capsys):
    whole, killed = here_with_two
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", f"--checkpoint={whole.parent}", "--episodes=1"])
    assert exit_.value.code == 2
    assert f"got {killed}; to take an older one, name it: {whole}." in capsys.readouterr().err


@pytest.fixture
def here_with_two(tmp_path, monkeypatch):
    """A run that ended and one that was killed before its first checkpoint, in the current directory."""
    monkeypatch.chdir(tmp_path)
    main(typed("phase1", *BRIEF))
    whole, killed = folder("phase1"), folder("phase1", version=1)
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints")
    return whole, killed
