"""Two processes, by `--trainer.devices 2` alone: what they log is of both, and they are resumed by two."""

import pytest
import torch
from support.command_runs import assert_same_run, command, folder, typed

from lit_dcem.cli.main import main
from lit_dcem.planet.data.replay import EpisodeReplay
from lit_dcem.training.curves import read_curves

LAST = "checkpoints/last.ckpt"
REFUSED = "lit-dcem: A run with rollouts must be resumed with its own number of processes, {}, got {}."


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_two(experiment, *more):
    """Exit code, and the words of both processes."""
    with command(typed(experiment, "--trainer.devices=2", *more), ".") as process:
        words = process.communicate()[0]
    return process.returncode, words


def returns(folder):
    """Of all episodes that a process has collected."""
    replay = EpisodeReplay(folder, observation_dim=5, action_dim=1)
    replay.take_all()
    return [replay.episode(index).rewards.sum().item() for index in range(replay.num_episodes)]


@pytest.mark.slow
def test_metrics_are_over_both(here):
    options = ("--trainer.callbacks+=support.own_returns.OwnReturns", "--data.evaluation_episodes=2")
    code, words = in_two("phase1", "--trainer.max_epochs=1", *options)
    assert code == 0, words
    curves = read_curves(folder("phase1") / "curves.csv")
    first, second = (returns(folder("phase1") / f"replay/rank_{rank}") for rank in range(2))
    assert first and second and first != second
    assert curves["train/episodes"].values[-1] == len(first + second)
    assert curves["train/return"].values[-1] == pytest.approx(sum(first + second) / len(first + second))
    measured = [float((here / f"returns_{rank}.txt").read_text()) for rank in range(2)]
    assert measured[0] != measured[1]
    assert curves["val/return"].values[-1] == pytest.approx(sum(measured) / 2)
    assert curves["val/return"].steps[-1] == curves["train/simulator_steps"].values[-1]


@pytest.mark.slow
def test_a_run_that_steps_environments_keeps_its_number_of_processes(here):
    main(typed("phase1", "--trainer.max_epochs=2"))
    main(typed("phase1", "--trainer.max_epochs=1"))
    code, words = in_two("phase1", "--trainer.max_epochs=2", "--ckpt_path=last")
    assert code == 2
    assert REFUSED.format(1, 2) in words and "Traceback" not in words
    main(typed("phase1", "--trainer.max_epochs=2", "--ckpt_path=last"))
    assert_same_run(folder("phase1"), folder("phase1", version=1))


def test_a_run_of_two_is_not_resumed_by_one(here, capsys):
    """And nothing in its folder changes."""
    main(typed("phase1", "--trainer.max_epochs=1"))
    path = folder("phase1") / LAST
    content = torch.load(path, weights_only=True)
    content["Rollouts"]["ranks"] *= 2  # as two processes leave it
    torch.save(content, path)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(SystemExit) as exit_:
        main(typed("phase1", "--trainer.max_epochs=2", "--ckpt_path=last"))
    assert exit_.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == REFUSED.format(2, 1)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_a_run_without_environments_can_be_resumed_by_more_processes(here):
    main(typed("cartpole", "--trainer.max_epochs=1"))
    code, words = in_two("cartpole", "--trainer.max_epochs=2", "--ckpt_path=last")
    assert code == 0, words
    assert torch.load(folder("cartpole") / LAST, weights_only=True)["epoch"] == 2
