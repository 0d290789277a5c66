"""Optimizers are checked before training, in each of their groups."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_dcem.training.optimizing import optimize


def groups(**options):
    """Two of them, of which the second has options of its own."""
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    return [{"params": weights[:1]}, {"params": weights[1:], **options}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -1.0}, "Invalid epsilon value: -1.0"),
        ({"eps": float("inf")}, "eps must be finite, got inf"),
        ({"betas": (2.0, 0.9)}, "Invalid beta parameter"),
        ({"clip": 0.0}, "clip must be a positive number, got 0.0"),
        ({"clip": []}, r"clip must be a positive number, got \[\]"),
    ],
)
def test_what_a_single_group_has_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        optimize(groups(**options), torch.optim.Adam, None, "val/return")


class Own(torch.optim.SGD):
    """Made from more than its groups hold."""

    def __init__(self, params, reach):
        super().__init__(params, lr=reach / 2)


def test_somebodys_own_optimizer_is_taken():
    built = optimize(groups(clip=1.0), lambda params: Own(params, reach=0.2), None, "val/return")
    assert [group["lr"] for group in built.param_groups] == [0.1, 0.1]


def test_a_plateau_of_returns_is_one_of_the_highest():
    def plateau(mode):
        return lambda optimizer: ReduceLROnPlateau(optimizer, mode=mode)

    with pytest.raises(ValueError, match="must have the mode max, in which val/return gets better, got min"):
        optimize(groups(), torch.optim.Adam, plateau("min"), "val/return", "max")
    for mode, monitor in (("max", "val/return"), ("min", "val/cost")):
        found = optimize(groups(), torch.optim.Adam, plateau(mode), monitor, mode)["lr_scheduler"]
        assert found["monitor"] == monitor and found["scheduler"].mode == mode and found["frequency"] == 1
