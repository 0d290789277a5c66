"""The folder of a run: its own, whatever the logger; found again, moved, locked, and left alone by a refused start."""

import csv
import errno
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from support.command_runs import assert_same_run, command, folder, replay, scalars, typed

from lit_dcem.cli.main import main
from lit_dcem.cli.resuming import check_same_run
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.collector import Collector
from lit_dcem.training.checkpoint import Config
from lit_dcem.training.run_folder import RunFolder, discard, folder_of, new_run, newest_run

TWO_LOGGERS = """
trainer:
  logger:
    - class_path: pytorch_lightning.loggers.TensorBoardLogger
      init_args: {save_dir: runs, name: two}
    - class_path: pytorch_lightning.loggers.CSVLogger
      init_args: {save_dir: runs, name: two_csv}
"""
LAST = "checkpoints/last.ckpt"
pytestmark = pytest.mark.filterwarnings("ignore:Pictures need a logger")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_runs_are_numbered_and_the_newest_is_the_last_with_a_checkpoint(here):
    assert newest_run(here / "runs") is None
    paths = [new_run(here / "runs") for _ in range(12)]
    assert [path.name for path in paths] == [f"version_{number}" for number in range(12)]
    for number in (2, 10):
        (paths[number] / "checkpoints").mkdir()
        (paths[number] / LAST).touch()
    assert newest_run(here / "runs") == paths[10] / LAST
    assert folder_of(paths[10] / LAST) == paths[10]
    discard(paths[11])
    assert new_run(here / "runs").name == "version_11"


def test_last_does_not_pass_over_a_run_that_was_killed_before_its_first_checkpoint(here, capsys):
    main(typed("cartpole", "--trainer.max_epochs=1"))
    first, killed = folder("cartpole"), new_run(folder("cartpole").parent)
    RunFolder(killed).release()  # as far as a run comes before its first epoch
    more = ("--trainer.max_epochs=2", "--ckpt_path")
    says = refused(capsys, *typed("cartpole", *more, "last"))
    assert says.endswith(f"got {killed}; to resume an older one: --ckpt_path {first / LAST}.")
    main(typed("cartpole", *more, str(first / LAST)))
    discard(killed)
    main(typed("cartpole", "--trainer.max_epochs=3", "--ckpt_path=last"))


def test_a_folder_that_cannot_be_made_is_one_sentence(here):
    (here / "file").touch()
    with pytest.raises(UsageError, match="needs a folder to write to, got"):
        new_run(here / "file")
    with pytest.raises(UsageError, match="needs a folder to write to, got"):
        new_run(here / "file" / "below")


def test_a_full_disk_leaves_what_was_saved_and_no_empty_folder(here, capsys, monkeypatch):
    def full(handle):
        if "checkpoints" in os.readlink(f"/proc/self/fd/{handle}"):  # after the first updates
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in refused(capsys, *typed("cartpole", "--trainer.max_epochs=1"))
    assert not list(here.rglob("version_*"))
    main(typed("cartpole", "--trainer.max_epochs=1"))
    last = folder("cartpole") / LAST
    whole = last.read_bytes()
    more = typed("cartpole", "--trainer.max_epochs=2", "--ckpt_path=last")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in refused(capsys, *more)
    assert last.read_bytes() == whole
    main(more)
    assert torch.load(last, weights_only=True)["epoch"] == 2


def test_a_folder_is_for_one_process_at_a_time(here):
    mine = RunFolder(here)
    with pytest.raises(UsageError, match=f"trained by one process at a time, got {here}, where process {os.getpid()}"):
        RunFolder(here)  # a lock is of an open file, not of a process
    mine.release()
    RunFolder(here).release()


def test_a_run_that_another_process_trains_is_not_disturbed(here, capsys):
    main(typed("cartpole", "--trainer.max_epochs=1"))
    other, more = RunFolder(folder("cartpole")), typed("cartpole", "--trainer.max_epochs=2", "--ckpt_path=last")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    says = f"by one process at a time, got {here / folder('cartpole')}, where process {os.getpid()} is."
    assert refused(capsys, *more).endswith(says)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    other.release()
    main(more)


@pytest.mark.slow
def test_two_loggers_go_on_where_they_were(here):
    Path("two.yaml").write_text(TWO_LOGGERS)
    line = typed("plateau", "--config=two.yaml")

    def table():
        with Path("runs/two_csv/version_0/metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    main([*line, "--trainer.max_epochs=3"])
    straight, curves = table(), scalars(Path("runs/two/version_0"))
    shutil.rmtree("runs")
    main([*line, "--trainer.max_epochs=1"])
    main([*line, "--trainer.max_epochs=2", "--ckpt_path=last"])
    main([*line, "--trainer.max_epochs=3", f"--ckpt_path=runs/two/version_0/{LAST}"])
    assert table() == straight
    assert scalars(Path("runs/two/version_0")) == curves
    assert sorted(path.name for path in Path("runs").glob("*/version_*")) == ["version_0", "version_0"]


@pytest.mark.parametrize(
    ("logger", "runs"),
    [
        (["support.own_logger.ProjectLogger", "--trainer.logger.save_dir=logs"], "logs/project"),
        pytest.param(
            ["support.own_logger.NamelessLogger", "--trainer.logger.save_dir=logs"],
            "logs/project",
            marks=pytest.mark.slow,
        ),
        pytest.param(["false"], "runs/swingup_phase1", marks=pytest.mark.slow),
    ],
)
def test_every_run_has_a_replay_of_its_own(here, logger, runs):
    first, *more = logger
    line = typed("phase1", f"--trainer.logger={first}", *more)
    main([*line, "--trainer.max_epochs=1"])
    replay = Path(runs, "version_0/replay/rank_0/episodes.f32")
    before = replay.read_bytes()
    main([*line, "--trainer.max_epochs=1"])
    assert replay.read_bytes() == before
    main([*line, "--trainer.max_epochs=2", f"--ckpt_path={runs}/version_0/{LAST}"])
    main([*line, "--trainer.max_epochs=2", "--ckpt_path=last"])
    assert sorted(path.name for path in Path(runs).iterdir()) == ["version_0", "version_1"]
    assert {path.name for path in Path(runs, "version_1").iterdir()} >= {"checkpoints", "config.yaml", "replay"}


def test_a_moved_run_goes_on_where_it_is(here):
    main(typed("phase1", "--trainer.max_epochs=2"))
    shutil.rmtree("runs")
    main(typed("phase1", "--trainer.max_epochs=1"))
    shutil.move("runs", "archive")
    moved = Path("archive/swingup_phase1/version_0")
    main(typed("phase1", "--trainer.max_epochs=2", f"--ckpt_path={moved / LAST}"))
    assert not Path("runs").exists()
    states = torch.load(moved / LAST, weights_only=True)["callbacks"]
    best = next(state["best_model_path"] for name, state in states.items() if name.startswith("ModelCheckpoint"))
    assert Path(best).parent == (here / moved / "checkpoints")
    shutil.copytree(moved, "kept")
    main(typed("phase1", "--trainer.max_epochs=2"))
    assert_same_run(here / folder("phase1"), here / "kept")


CHANGES = {
    "cartpole": {
        "--model.init_args.optimizer.init_args.lr=0.123": "optimizer.init_args.lr 0.001, got 0.123.",
        "--seed_everything=5": "seed_everything 0, got 5.",
        "--model.init_args.lr_scheduler=null": "CosineAnnealingLR, got None.",
        "--data=lit_dcem.RegressionData": "lit_dcem.CartpoleStates, got lit_dcem.RegressionData.",
    },
    "phase1": {
        "--data.init_args.num_envs=2": "num_envs 1, got 2.",
        "--data.init_args.env=cartpole-balance": "env cartpole-swingup, got cartpole-balance.",
        "--data.init_args.action_repeat=25": "action_repeat 8, got 25.",
        '--data.init_args.env_options={"environment_kwargs": {"flat_observation": true}}': "env_options None, got {",
    },
}


SCHEDULE = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 28}}


@pytest.mark.parametrize(
    ("part", "name", "was", "now"),
    [
        ("model", "lr_scheduler", SCHEDULE, None),
        ("model", "lr_scheduler", None, SCHEDULE),
        ("data", "env_options", None, {"a": 1}),
        ("data", "env_options", {"a": 1}, {"a": 1, "b": 2}),
        ("data", "env_options", {"a": 1, "b": 2}, {"a": 1}),
        ("model", "tuned", {"decoder": {}}, {"reward": {}}),
        ("model", "decoder_options", {}, {"lr": 1.0}),
        ("model", "optimizer", None, {"class_path": "torch.optim.Adam", "init_args": {"lr": 1.0}}),
    ],
)
def test_options_that_come_or_go_are_refused(tmp_path, part, name, was, now):
    other = "data" if part == "model" else "model"

    def check(was, now):
        check_same_run(
            Config(**{part: {name: was}, other: {}}), {part: {"init_args": {name: now}}, other: {}}, tmp_path
        )

    with pytest.raises(UsageError, match=f"what it began with, {name}"):
        check(was, now)
    check(was, was)
    check(None, {})


def test_another_version_of_a_class_may_have_other_options(tmp_path):
    """Such as an optimizer of torch with one more: its default is what it did before."""
    old, new = ({"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, **more}} for more in ({}, {"fused": False}))
    for was, now in ((old, new), (new, old)):
        check_same_run(Config({"optimizer": was}, {}), {"model": {"init_args": {"optimizer": now}}}, tmp_path)


@pytest.mark.parametrize("experiment", ["cartpole", pytest.param("phase1", marks=pytest.mark.slow)])
def test_what_would_not_be_heeded_is_refused(here, capsys, experiment):
    main(typed(experiment, "--trainer.max_epochs=1"))
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and path.name != ".lock"}
    for change, says in CHANGES[experiment].items():
        assert says in refused(capsys, *typed(experiment, "--ckpt_path=last", change))
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(here.glob("runs/*/version_*"))) == 1


@pytest.mark.parametrize(("experiment", "best"), [("phase1", "max"), ("cartpole", "min")])
def test_a_schedule_that_takes_what_gets_better_for_a_plateau_is_refused(here, capsys, experiment, best):
    wrong = {"max": "min", "min": "max"}[best]
    schedule = "--model.init_args.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"
    says = refused(capsys, *typed(experiment, schedule, f"--model.init_args.lr_scheduler.mode={wrong}"))
    assert f"lr_scheduler must have the mode {best}, in which " in says and says.endswith(f"got {wrong}.")
    assert not list(here.rglob("version_*"))


@pytest.mark.parametrize(
    "mistake",
    [
        ["cartpole", "--data=lit_dcem.RegressionData"],
        ["phase1", "--data.init_args.env=Nothing-v0"],
        ["phase1", "--model.world_model.observation_dim=3"],
        ["cartpole", "--trainer.check_val_every_n_epoch=0"],
    ],
)
def test_a_refused_start_leaves_nothing(here, capsys, mistake):
    experiment, *options = mistake
    refused(capsys, *typed(experiment, *options))
    assert not list(here.rglob("version_*"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_seed_episodes_outlive_a_stop_before_the_first_update(here, number, code):
    stopped = folder("phase1")
    with command(typed("phase1", "--data.init_args.seed_episodes=100000"), here) as process:
        while process.poll() is None and not any(replay(stopped).values()):
            time.sleep(0.1)
        process.send_signal(number)
        words = process.communicate()[0]
    assert process.returncode == code, words
    reuse = f"--data.initial_replay={stopped}"
    told = f"lit-dcem: Stopped before the first update; to reuse its seed episodes, add {reuse}."
    assert words.strip().endswith(told)
    main(typed("phase1", reuse, "--trainer.max_epochs=1"))
    (episodes,), (begun_with,) = (replay(run).values() for run in (stopped, folder("phase1", version=1)))
    assert begun_with.startswith(episodes)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_an_environment_swallows_is_not_lost(here, monkeypatch, number, code):
    """As happens in C, and in dm_control now and then: an exception that a signal raises there is dropped."""
    step, steps = Collector.step, iter(range(100))

    def swallow(self, *arguments):
        if next(steps) == 5:
            with suppress(BaseException):
                signal.raise_signal(number)
        return step(self, *arguments)

    monkeypatch.setattr(Collector, "step", swallow)
    with pytest.raises(SystemExit) as exit_:
        main(typed("phase1", "--data.init_args.seed_episodes=100000"))
    assert exit_.value.code == code and next(steps) == 6
