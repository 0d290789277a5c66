"""All three phases of PlaNet in one run."""

import functools

import pytest
import torch
from support.phase3 import ROLLOUTS, SOFT
from support.phases import SEARCH, SIZES, assert_killed_run_goes_on, assert_same, fit, lines

from lit_dcem import (
    DCEM,
    ActionDecoder,
    JointRollouts,
    LatentPlanner,
    PlanetJoint,
    PolicyGradient,
    ValueHead,
    WorldModel,
)

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
REPLAY = {"batch_size": 4, "sequence_length": 5}


def module(seed=0, **options):
    torch.manual_seed(seed)
    decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1, init_scale=3.0)
    value = ValueHead(8, 3, hidden_dim=8, num_layers=1, scale=10.0)
    return PlanetJoint(
        WorldModel(3, 1, free_nats=0.0, **SIZES),
        LatentPlanner(decoder, DCEM(**SOFT)),
        PolicyGradient(value, 1, std=0.3),
        **{"num_beliefs": 3, "normalize": True, "optimizer": functools.partial(torch.optim.Adam, lr=1e-2), **options},
    )


def parts(**options):
    return module(**options), JointRollouts(**{**ROLLOUTS, **REPLAY})


def test_everything_learns(tmp_path):
    before = module().state_dict()
    phase, data, trainer = fit(tmp_path, 2, make=parts)
    only_if_asked_for = {f"train/{name}" for name in ("termination", "value_loss", "value_accuracy", "value_weight")}
    assert set(phase.metrics) - only_if_asked_for <= trainer.callback_metrics.keys()
    still = {name for name, value in phase.named_parameters() if torch.equal(value, before[name])}
    assert not still
    assert trainer.global_step == 8 and data._replay.num_episodes == 6


def test_the_policy_reaches_the_decoder_alone(tmp_path):
    """With no weight on it, the world model learns just the same."""
    models = []
    for weight in (0.0, 1.0):
        phase, *_ = fit(tmp_path / str(weight), 1, make=parts, policy_weight=weight)
        models.append(phase.state_dict())
    same = {name for name in models[0] if torch.equal(models[0][name], models[1][name])}
    assert {name for name in models[0] if name.startswith("world_model.")} <= same
    assert "planner.decoder.layers.0.weight" not in same


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.slow
def test_resumed_run_is_bit_identical(tmp_path, stop):
    fit(tmp_path / "whole", 3, make=parts)
    fit(tmp_path / "cut", stop, make=parts)
    fit(tmp_path / "cut", 3, resume=tmp_path / "cut" / "last.ckpt", make=parts)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_killed_run_goes_on_bit_identical(tmp_path):
    assert_killed_run_goes_on(tmp_path, 20, __name__)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy_weight": -1.0}, "policy_weight must be at least 0 and finite, got -1.0"),
        ({"training_solver": DCEM(**SEARCH), "logit_cost": -1.0}, "logit_cost at least 0"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        module(**options)
