"""The table of a run's curves holds what was logged, and goes on where a checkpoint left it."""

import csv

import pytest

from lit_dcem.errors import UsageError
from lit_dcem.training.curves import Curves, read_curves


def test_numbers_are_read_as_they_were_logged(tmp_path):
    curves = Curves(tmp_path, seed=3)
    curves.log_metrics({"train/loss": 0.1, "epoch": 0}, 10)
    curves.log_metrics({"train/loss": float("nan"), "val/a,b": 1e300}, 20)
    curves.finalize("success")
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    header, *first = rows[:3]
    assert header == ["step", "metric", "value", "seed"]
    assert first == [["10", "epoch", "0.0", "3"], ["10", "train/loss", "0.1", "3"]]
    found = read_curves(tmp_path / "curves.csv")
    assert found.keys() == {"train/loss", "epoch", "val/a,b"}
    assert found["val/a,b"].steps.tolist() == [20] and found["val/a,b"].values.tolist() == [1e300]
    assert str(found["train/loss"].values.tolist()) == "[0.1, nan]"


def test_rows_do_not_depend_on_what_was_logged_first(tmp_path):
    for name, names in {"a": "xy", "b": "yx"}.items():
        (tmp_path / name).mkdir()
        curves = Curves(tmp_path / name)
        curves.log_metrics(dict.fromkeys(names, 1.0), 1)
        curves.finalize("success")
    assert (tmp_path / "a/curves.csv").read_text() == (tmp_path / "b/curves.csv").read_text()


def test_a_resumed_run_continues_at_its_checkpoint(tmp_path):
    first = Curves(tmp_path)
    first.log_metrics({"loss": 1.0}, 1)
    position = first.position()
    first.log_metrics({"loss": 2.0}, 2)
    first.finalize("failed")  # or killed
    second = Curves(tmp_path)
    second.continue_from(position)
    second.log_metrics({"loss": 3.0}, 2)
    second.finalize("success")
    assert (tmp_path / "curves.csv").read_text() == "step,metric,value,seed\n1,loss,1.0,\n2,loss,3.0,\n"


def test_a_run_that_began_without_curves_continues_without(tmp_path):
    curves = Curves(tmp_path)
    curves.continue_from(None)
    curves.log_metrics({"loss": 1.0}, 1)
    assert curves.position() == 0 and not list(tmp_path.iterdir())


def test_a_process_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curves = Curves(None)
    curves.log_metrics({"loss": 1.0}, 1)
    curves.finalize("success")
    assert curves.position() == 0 and not list(tmp_path.iterdir())


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"Curves must be a readable CSV file, got .*gone\.csv"):
        read_curves(tmp_path / "gone.csv")
