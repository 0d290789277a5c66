"""A run that is stopped in any way a user stops it, and resumed by the command line, is the run that never stopped."""

import os
import random
import shutil
import signal
from itertools import pairwise

import pytest
import torch
import yaml
from support.command_runs import EXPERIMENTS, assert_same_run, command, folder, typed

from lit_dcem.cli.main import main

SIGNALS = {"SIGINT": (signal.SIGINT, 130), "SIGTERM": (signal.SIGTERM, 143)}
TWO_PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp")


def fit(path, monkeypatch, experiment, epochs, *more):
    """Train in a folder up to so many epochs."""
    path.mkdir(exist_ok=True)
    monkeypatch.chdir(path)
    main(typed(experiment, f"--trainer.max_epochs={epochs}", *more))
    return path / folder(experiment)


def epoch_by_epoch(tmp_path, monkeypatch, experiment, epochs):
    straight = fit(tmp_path / "straight", monkeypatch, experiment, epochs)
    resumed = fit(tmp_path / "resumed", monkeypatch, experiment, 1)
    for number in range(2, epochs + 1):
        random.seed(number)
        fit(tmp_path / "resumed", monkeypatch, experiment, number, "--ckpt_path=last")
    assert_same_run(straight, resumed)
    assert yaml.safe_load((resumed / "config.yaml").read_text())["trainer"]["max_epochs"] == epochs  # typed last


def test_resumed_after_an_epoch_is_the_same_as_straight(tmp_path, monkeypatch):
    epoch_by_epoch(tmp_path, monkeypatch, "cartpole", 2)  # all experiments, below
    resumed = folder("cartpole")
    main(["fit", "--config", str(resumed / "config.yaml")])  # from the start
    assert_same_run(resumed, folder("cartpole", version=1))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_resumed_after_every_epoch_is_the_same_as_straight(experiment, tmp_path, monkeypatch):
    epoch_by_epoch(tmp_path, monkeypatch, experiment, 4)


def test_another_update_interval_holds_from_where_a_run_is_resumed(tmp_path, monkeypatch):
    """Five updates an epoch: the steps of each epoch after the first, which has the seed episodes."""
    begun = fit(tmp_path, monkeypatch, "phase1", 3)
    fit(tmp_path, monkeypatch, "phase1", 5, "--ckpt_path=last", "--data.update_interval=2")
    rows = torch.load(begun / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["History"]["rows"]
    steps = [row["val/simulator_steps"] / 8 for row in rows]  # of the agent
    assert [after - before for before, after in pairwise(steps)][1:] == [25, 10 + 3, 10]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_a_run_of_steps_resumes_between_epochs(tmp_path, monkeypatch):
    def steps(name, number, *more):
        return fit(tmp_path / name, monkeypatch, "cartpole", 9, f"--trainer.max_steps={number}", *more)

    straight, resumed = steps("straight", 15), steps("resumed", 5)
    steps("resumed", 12, "--ckpt_path=last")  # in the middle of an epoch
    steps("resumed", 15, "--ckpt_path=last")
    assert_same_run(straight, resumed)


def stop(path, number, updates, *more):
    """Send a signal to a run of the cartpole after so many updates, two epochs make ten; return its exit code.

    As a terminal does, it goes to all its processes.
    """
    path.mkdir()
    slow = "--trainer.callbacks+=support.slow_updates.SlowUpdates"
    line, sent = typed("cartpole", "--trainer.max_epochs=2", slow, *more), False
    with command(line, path, start_new_session=True) as process:
        words = []
        for word in process.stdout:
            words.append(word)
            if word.strip() == f"update {updates}" and not sent:
                os.killpg(process.pid, number)
                sent = True
    assert any(word.startswith("lit-dcem: Stopped after update") for word in words), "".join(words)
    return process.returncode


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_after_an_update_and_it_goes_on(name, tmp_path, monkeypatch):
    number, code = SIGNALS[name]
    straight = fit(tmp_path / "straight", monkeypatch, "cartpole", 2)
    assert stop(tmp_path / "stopped", number, updates=7) == code
    stopped = tmp_path / "stopped" / folder("cartpole")
    assert torch.load(stopped / "checkpoints/last.ckpt", weights_only=True)["global_step"] in (7, 8)
    fit(tmp_path / "stopped", monkeypatch, "cartpole", 2, "--ckpt_path=last")
    assert_same_run(straight, stopped)


@pytest.mark.slow
def test_a_run_that_is_still_trained_is_not_resumed(tmp_path, monkeypatch, capsys):
    straight = fit(tmp_path / "straight", monkeypatch, "cartpole", 2)
    line = typed("cartpole", "--trainer.max_epochs=2")
    slow = "--trainer.callbacks+=support.slow_updates.SlowUpdates"
    (tmp_path / "trained").mkdir()
    monkeypatch.chdir(tmp_path / "trained")
    with command([*line, slow], ".") as process:
        next(word for word in process.stdout if word.strip() == "update 7")
        process.send_signal(signal.SIGSTOP)  # so that it lives as long as we try
        with pytest.raises(SystemExit) as exit_:
            main([*line, "--ckpt_path=last"])
        process.send_signal(signal.SIGCONT)
        words = process.communicate()[0]
    assert exit_.value.code == 2 and process.returncode == 0, words
    assert f"process {process.pid} is." in capsys.readouterr().err.strip().splitlines()[-1]
    assert_same_run(straight, folder("cartpole"))


MOMENTS = [("update", 3), ("validation", 1), ("save", 2), ("epoch", 1), ("save", 1), ("update", 1)]


def kill(path, experiment, moment, number):
    """Train until killed, from the last checkpoint if there is one, else anew."""
    goes_on = (path / folder(experiment) / "checkpoints/last.ckpt").exists()
    if not goes_on:
        shutil.rmtree(path / "runs", ignore_errors=True)
    killer = ["--trainer.callbacks+=support.killer.Killer", f"--trainer.callbacks.moment={moment}"]
    more = [*killer, f"--trainer.callbacks.number={number}", *["--ckpt_path=last"] * goes_on]
    with command(typed(experiment, "--trainer.max_epochs=4", *more), path) as process:
        words = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, words


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_killed_again_and_again_is_the_same_as_straight(experiment, tmp_path, monkeypatch):
    straight = fit(tmp_path / "straight", monkeypatch, experiment, 4)
    cut = tmp_path / "cut"
    cut.mkdir()
    for moment, number in MOMENTS:
        kill(cut, experiment, moment, number)
    assert_same_run(straight, fit(cut, monkeypatch, experiment, 4, "--ckpt_path=last"))


def train_in_two(path, experiment, epochs, *more):
    path.mkdir(exist_ok=True)
    with command(typed(experiment, f"--trainer.max_epochs={epochs}", *TWO_PROCESSES, *more), path) as process:
        words = process.communicate()[0]
    assert process.returncode == 0, words
    return path / folder(experiment)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_two_processes_resume(experiment, tmp_path):
    straight = train_in_two(tmp_path / "straight", experiment, 2)
    train_in_two(tmp_path / "resumed", experiment, 1)
    assert_same_run(straight, train_in_two(tmp_path / "resumed", experiment, 2, "--ckpt_path=last"))


@pytest.mark.slow
def test_two_processes_begin_with_the_replay_of_one(tmp_path, monkeypatch):
    before = fit(tmp_path, monkeypatch, "phase1", 1)
    run = train_in_two(tmp_path, "phase2", 1, f"--data.initial_replay={before}")
    assert [path.name for path in sorted((run / "replay").iterdir())] == ["rank_0", "rank_1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_two_processes_together(name, tmp_path):
    number, code = SIGNALS[name]
    assert stop(tmp_path / "stopped", number, 7, *TWO_PROCESSES) == code
    straight = train_in_two(tmp_path / "straight", "cartpole", 2)
    assert_same_run(straight, train_in_two(tmp_path / "stopped", "cartpole", 2, "--ckpt_path=last"))
