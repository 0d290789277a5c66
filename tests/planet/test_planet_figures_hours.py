"""Figure hours shows the validations that checkpoints keep, against the time that they took."""

import pytest
import torch

from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped
from lit_dcem.planet.figures.hours import Trained, read_trained, returns_by_hours

CHECKPOINTS = shipped("checkpoints")


def trained(controller, hours, returns, task="cheetah-run"):
    return Trained(task, controller, hours, returns)


def labels(axis):
    return [line.get_label() for line in axis.lines if not line.get_label().startswith("_")]


def test_a_panel_for_each_task_and_a_line_for_each_run_of_a_controller():
    figure = returns_by_hours(
        [
            trained("phase 1", [0.5, 1.0], [3.0, 4.0]),
            trained("phase 2", [0.25], [5.0]),
            trained("phase 1", [0.6], [2.0]),
            trained("phase 2", [0.1], [1.0], "walker-walk"),
        ]
    )
    cheetah, walker = figure.axes
    assert [axis.get_title() for axis in (cheetah, walker)] == ["cheetah-run", "walker-walk"]
    assert labels(cheetah) == ["phase 1", "phase 2"] and labels(walker) == ["phase 2"]
    assert [line.get_xydata().tolist() for line in cheetah.lines] == [[[0.5, 3], [1, 4]], [[0.6, 2]], [[0.25, 5]]]
    colours = [line.get_color() for line in [*cheetah.lines, *walker.lines]]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_a_checkpoint_knows_its_task_its_controller_and_how_long_it_has_trained():
    name = CHECKPOINTS / "cheetah_phase2_fast_0.ckpt"
    rows = torch.load(name, weights_only=True)["callbacks"]["History"]["rows"]
    found = read_trained(name)
    assert (found.task, found.controller) == ("cheetah-run", "phase 2, CEM in a latent space")
    assert found.hours == [row["seconds"] / 3600 for row in rows] and found.hours == sorted(found.hours)
    assert found.returns == [row["val/return"] for row in rows]


def test_a_checkpoint_of_something_else_is_refused():
    with pytest.raises(UsageError, match=r"needs runs of PlaNet's phases, got CartpoleEmbedding in .*cartpole_d2_0"):
        read_trained(CHECKPOINTS / "cartpole_d2_0.ckpt")


def test_a_checkpoint_that_was_never_validated_is_refused(tmp_path):
    content = torch.load(CHECKPOINTS / "cheetah_phase2_fast_0.ckpt", weights_only=True)
    content["callbacks"]["History"]["rows"] = [{"step": 3.0, "seconds": 1.0}]
    torch.save(content, tmp_path / "new.ckpt")
    with pytest.raises(UsageError, match=r"needs runs with validations, got none in .*new\.ckpt"):
        read_trained(tmp_path / "new.ckpt")
