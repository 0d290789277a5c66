"""A folder of runs stands for the newest of them."""

import shutil

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
