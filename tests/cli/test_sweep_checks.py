"""Mistakes in a sweep are found before any of its runs begins, those of late phases too."""

import os
import re
from pathlib import Path

import pytest
import yaml
from support.command_runs import command

from lit_dcem.cli.sweep import execution, sweep
from lit_dcem.cli.sweep.checking import check_runs
from lit_dcem.cli.sweep.grid import plan, read_sweep
from lit_dcem.cli.sweep.run import Run
from lit_dcem.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"
START = {"model.init_args.start": "checkpoints/best.ckpt", "data.init_args.initial_replay": "."}
SEARCH = "model.init_args.planner.init_args.solver.init_args"
SMALL = [
    {"configs": ["swingup_phase1.yaml", "debug.yaml"]},
    {"configs": ["swingup_phase2.yaml", "debug.yaml"], "starts": START},
    {"configs": ["swingup_phase3.yaml", "debug.yaml"], "starts": {"model.init_args.start": "checkpoints/best.ckpt"}},
]
CONTENT = {"metric": "val/return", "mode": "max", "grid": {"seed_everything": [0, 1]}, "chains": {"swing-up": SMALL}}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a sweep file with some entries changed; nothing must be trained."""
    monkeypatch.setattr(execution, "execute", lambda *_: pytest.fail("a run began"))

    def write(**changes):
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
        return tmp_path / "s.yaml"

    return write


def with_arguments(number, arguments):
    return {"swing-up": [{**each, "arguments": arguments} if i == number else each for i, each in enumerate(SMALL, 1)]}


def runs_of(file, out):
    return [each for each in plan(read_sweep(file), out) if isinstance(each, Run)]


@pytest.mark.parametrize(
    ("changes", "run", "says"),
    [
        ({"chains": with_arguments(3, {"model.init_args.polic": 1})}, "phase=3,seed=0", "Options must be known, got"),
        ({"chains": with_arguments(2, {f"{SEARCH}.num_elites": 0})}, "phase=2,seed=0", "num_elites must be"),
        ({"chains": with_arguments(1, {"data.init_args.env": "swing"})}, "phase=1,seed=0", "got swing"),
        ({"grid": {"seed_everything": [0, "x"]}}, "phase=1,seed=x", "seed_everything"),
        ({"grid": {"trainer.max_epochs": [1, 2, "many"]}}, "phase=1,max_epochs=many", "max_epochs"),
        ({"metric": "val/retrun"}, "phase=1,seed=0", "The metric must be one of val/return, .*, got val/retrun"),
        ({"metric": "train/return"}, "phase=1,seed=0", "The metric must be one of val/return, .*, got train/return"),
    ],
)
def test_a_mistake_in_any_phase_is_found_first(write, tmp_path, changes, run, says):
    """It is one sentence that names the run, and nothing is written."""
    with pytest.raises(UsageError) as error:
        sweep(write(**changes), tmp_path / "out")
    begun = f"Every run of a sweep must be able to begin, got a mistake in task=swing-up,{run}: "
    assert str(error.value).startswith(begun) and re.search(says, str(error.value))
    assert "\n" not in str(error.value) and not list(tmp_path.glob("out/*"))


def test_a_mistake_as_typed(tmp_path):
    """Exit code 2, before anything is trained."""
    content = {"configs": ["cartpole.yaml"], "metric": "val/cost", "grid": {"model.init_args.sovler": [1]}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    process = command(["sweep", "s.yaml"], tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 2 and re.search("got a mistake in .*Options must be known, got .*sovler", said), said
    assert "Traceback" not in said and not list(tmp_path.glob("runs/*/*"))


def test_each_value_of_an_option_is_tried_once(write, tmp_path, monkeypatch):
    """One value at a time differs from the first ones, and of seeds the first."""
    tried = []
    monkeypatch.setattr("lit_dcem.cli.rehearsal.Rehearsal.__init__", lambda *given: tried.append(given[1]))
    monkeypatch.setattr("lit_dcem.cli.rehearsal.Rehearsal.model", None, raising=False)
    monkeypatch.setattr("lit_dcem.cli.rehearsal.Rehearsal.checkpoint_at", lambda *_: None)
    grid = {"seed_everything": [0, 1, 2], "trainer.max_epochs": [1, 2], "trainer.limit_val_batches": [1, 2, 3]}
    check_runs(runs_of(write(grid=grid), tmp_path / "out"), "val/return")
    options = [" ".join(each) for each in tried]
    points = {
        re.search(r"--trainer.max_epochs=(\d) --trainer.limit_val_batches=(\d)", each).groups() for each in options
    }
    assert points == {("1", "1"), ("2", "1"), ("1", "2"), ("1", "3")} and len(tried) == 3 * 4


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("sweep_*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_can_begin(path, tmp_path, monkeypatch):
    """The check leaves no files, and no seed for the processes of the runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    check_runs(runs_of(path, tmp_path / "out"), read_sweep(path).metric)
    assert not list(tmp_path.iterdir()) and "PL_GLOBAL_SEED" not in os.environ
