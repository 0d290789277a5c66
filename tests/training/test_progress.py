"""Bars say how much is left, of one step as of a whole fit, and are quiet where nobody looks."""

import io
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console

from lit_dcem import DCEM, EnergyNetwork, EnergyRegression, RegressionData
from lit_dcem.cli.main import main
from lit_dcem.training import progress as bars_module
from lit_dcem.training.fit_progress import FitProgress, total_batches
from lit_dcem.training.progress import as_clock, bars, progress, seconds_left, ticking, track

FIT = ["fit", "--config", "regression", "--config", "debug", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]


@pytest.fixture
def console(monkeypatch):
    """A terminal of ours in place of stderr."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(bars_module, "Console", lambda **_: terminal)
    return terminal


@pytest.fixture
def terminal():
    """Options of a progress bar that writes to a terminal of ours; Lightning changes rich's own console for them."""
    yield {"file": io.StringIO(), "force_terminal": True, "width": 150}
    rich.reconfigure()


def task(total, done, begun=0, seconds=10.0):
    shown = bars(Console(file=io.StringIO(), force_terminal=True))
    number = shown.add_task("", total=total, completed=begun, begun=begun)
    shown.update(number, completed=done)
    shown.tasks[number].start_time = shown.get_time() - seconds
    return shown.tasks[number]


def test_the_time_left_is_estimated_from_the_steps_of_this_process():
    assert seconds_left(task(10, 2)) == pytest.approx(40, abs=0.5)
    assert seconds_left(task(10, 8, begun=6)) == pytest.approx(10, abs=0.5)
    assert seconds_left(task(10, 6, begun=6)) is None and seconds_left(task(None, 3)) is None
    assert seconds_left(task(10, 10)) == 0
    assert as_clock(3725.2) == "1:02:05"


def test_bars_count_and_those_of_inner_loops_are_added(console):
    with progress("outer", 2) as tick:
        assert list(track([1, 2, 3], "inner")) == [1, 2, 3]
        tick()
        (shown,) = bars_module._shown
        assert [(each.description, each.completed) for each in shown.tasks] == [("outer", 1)]
    assert not bars_module._shown
    assert "inner" in console.file.getvalue() and "outer" in console.file.getvalue()


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    assert list(track(range(3), "items")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_failure_leaves_no_bars(console):
    with pytest.raises(ValueError, match="inside"), progress("outer", 2):
        raise ValueError("inside")
    assert not bars_module._shown


def test_calls_are_counted():
    ticks = []
    counted = ticking(torch.nn.Linear(2, 3), lambda: ticks.append(1))
    assert counted(torch.zeros(1, 2)).shape == (1, 3) and counted(torch.zeros(4, 2)).shape == (4, 3)
    assert len(ticks) == 2


def fit(bar, **options):
    solver = DCEM(num_candidates=6, num_elites=2, num_iterations=2)
    module = EnergyRegression(solver, EnergyNetwork(hidden_dim=4), validation_iterations=(1,))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "inference_mode": False}
    trainer = pl.Trainer(callbacks=[bar], accelerator="cpu", **quiet, **options)
    trainer.fit(module, RegressionData(batch_size=2, updates_per_epoch=4, seed=0))
    return trainer


def test_the_whole_of_a_fit_is_shown_with_the_time_left(terminal):
    trainer = fit(FitProgress(console_kwargs=terminal), max_epochs=3)
    assert total_batches(trainer) == 12
    shown = terminal["file"].getvalue()
    assert "Epoch 2/2" in shown
    assert re.search(r"All epochs.* 12/12.*0:00:\d\d • 0:00:00", shown)


@pytest.mark.parametrize(
    ("options", "total"), [({"max_steps": 6}, 6), ({"max_epochs": 2, "max_steps": 6, "accumulate_grad_batches": 2}, 8)]
)
def test_the_first_limit_ends_the_fit(terminal, options, total):
    assert total_batches(fit(FitProgress(console_kwargs=terminal), **options)) == total
    assert f"{total}/{total}" in terminal["file"].getvalue()


def test_a_time_limit_alone_is_shown(terminal):
    fit(FitProgress(console_kwargs=terminal), max_epochs=-1, max_time={"seconds": 2})
    assert "All epochs" in terminal["file"].getvalue()


def test_a_fit_is_quiet_where_there_is_no_terminal(terminal):
    fit(FitProgress(console_kwargs={**terminal, "force_terminal": False}), max_epochs=1)
    assert terminal["file"].getvalue() == ""


class Own(RichProgressBar):
    """A user's."""


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ([], 1),
        (["--trainer.enable_progress_bar=false"], 0),
        ([f"--trainer.callbacks={__name__}.Own"], 0),
    ],
)
def test_the_command_line_adds_a_bar_unless_told_otherwise(tmp_path, monkeypatch, options, ours):
    monkeypatch.chdir(tmp_path)
    made = []
    monkeypatch.setattr("lit_dcem.cli.train.FitProgress", lambda: made.append(1) or FitProgress())
    main([*FIT, *options])
    assert len(made) == ours and Path("runs").is_dir()
