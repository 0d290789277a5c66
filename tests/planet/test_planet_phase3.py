"""Phase 3 of PlaNet: PPO through the embedded controller."""

import functools

import pytest
import pytorch_lightning as pl
import torch
from support.phase3 import ALL, BLENDING, KEEPING, ROLLOUTS, SOFT, module, parts, recorded
from support.phases import SEARCH, SIZES, assert_killed_run_goes_on, assert_same, distributed, fit, lines

from lit_dcem import (
    DCEM,
    ActionDecoder,
    LatentPlanner,
    PlanetPhase2,
    Rollouts,
    WorldModel,
)
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.transitions import Transitions
from lit_dcem.planet.model.belief import Belief

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


class CutShort(pl.Callback):
    """As ``limit_train_batches`` does."""

    def __init__(self, batches):
        self.batches = batches

    def setup(self, trainer, pl_module, stage):
        trainer.limit_train_batches = self.batches


@pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": SEARCH},
        {"planner": {"precision": "bfloat16"}},
        pytest.param({"planner": {"sample": False}}, marks=pytest.mark.slow),
        pytest.param(KEEPING, marks=pytest.mark.slow),
        BLENDING,
    ],
    ids=["soft", "hard", "bf16", "means", "kept", "blended"],
)
def test_every_ratio_is_one_before_the_first_update(tmp_path, options):
    still = {"tuned": {"decoder": {"lr": 0.0}}, "value_options": {"lr": 0.0}}
    rows, *_ = recorded(tmp_path, 2, **still, **options)
    assert len(rows) == 8
    assert all(row["train/ratio"] == 0 and row["train/policy_kl"] == 0 for row in rows)


def test_updates_move_the_ratio(tmp_path):
    rows, *_ = recorded(tmp_path, 1)
    assert rows[0]["train/ratio"] == 0 and all(row["train/ratio"] > 0 for row in rows[1:])


def test_epochs_cut_short_by_lightning_change_no_update(tmp_path):
    """Two epochs of six updates and four of three: a step of PPO then ends and begins in the middle of an epoch."""
    options = {"rollouts": {"num_batches": 3}, "learner": {"value_steps": 1}, "make": parts}
    fit(tmp_path / "whole", 2, **options)
    fit(tmp_path / "short", 4, also=[CutShort(3)], **options)
    fit(tmp_path / "uneven", 3, also=[CutShort(4)], **options)
    for name in ("short", "uneven"):
        assert lines(tmp_path / name) == lines(tmp_path / "whole")


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("options", [KEEPING, BLENDING, {"tuned": ALL, "learner": {"max_kl": 0.01}}])
@pytest.mark.slow
def test_resumed_run_is_bit_identical(tmp_path, stop, options):
    """Checkpoints are written every three of the four updates of an epoch, so mostly in its middle."""
    fit(tmp_path / "whole", 5, make=parts, **options)
    fit(tmp_path / "cut", stop, make=parts, **options)
    torch.manual_seed(9)
    fit(tmp_path / "cut", 5, resume=tmp_path / "cut" / "last.ckpt", make=parts, **options)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("part", ["decoder", "reward", "transition"])
def test_what_is_not_tuned_does_not_move(tmp_path, part):
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in module().state_dict().items()}
    phase, *_ = fit(tmp_path, 1, make=parts, tuned={part: {}})
    homes = {
        "decoder": ("planner.decoder.",),
        "reward": ("world_model.reward_head.",),
        "transition": tuple(f"world_model.rssm.{name}." for name in ("input", "recurrent", "prior")),
    }
    homes = (*homes[part], "policy_gradient.value.")
    moved = {name for name, value in phase.state_dict().items() if not torch.equal(value, before[name])}
    expected = {name for name, _ in phase.named_parameters() if name.startswith(homes)}
    assert moved == expected


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def steps(times, envs):
    generator = torch.Generator().manual_seed(1)
    shape = (times, envs)
    return Transitions(
        deter=torch.rand(*shape, 8, generator=generator),
        stoch=torch.randn(*shape, 3, generator=generator),
        sample=torch.rand(*shape, 1, generator=generator) - 0.5,
        mean=torch.zeros(*shape, 1),
        std=torch.full((*shape, 1), 0.3),
        log_density=torch.zeros(shape),
        returns=torch.zeros(shape),
        advantages=torch.randn(shape, generator=generator),
        counts=torch.ones(shape) > 0,
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("planner.decoder.layers.0.weight", {}),
        ("planner.decoder.layers.0.weight", {"solver": {**SOFT, "checkpoint": True}}),
        ("world_model.reward_head.first.weight", {}),
        ("planner.decoder.layers.2.weight", BLENDING),
        ("planner.decoder.condition.weight", BLENDING),
    ],
)
def test_gradient_of_the_policy_agrees_with_finite_differences(part, options):
    """With common random numbers, through the whole search; and through the rest of the last plan, if it matters."""
    phase = module(**{"solver": SOFT, **options}, tuned=ALL, learner={"clip": 1e6})
    batch, weight = steps(2, 3), phase.get_parameter(part)
    if options is BLENDING:
        rests = {"rest": 2 * torch.rand(2, 3, 3, 1) - 1, "rest_counts": torch.tensor([[True, False, True]] * 2)}
        batch = batch._replace(**rests)

    def loss():
        plan = functools.partial(phase.planner.act, phase.world_model)
        return phase.policy_gradient.policy_loss(batch, lambda belief, rest: plan(belief, 5, rest)).policy.loss

    (gradient,) = torch.autograd.grad(loss(), weight)
    assert gradient.abs().max() > 0
    with torch.no_grad():
        for index in [(0, 0), (1, 0), (weight.shape[0] - 1, weight.shape[1] - 1)]:
            values = []
            for change in (1e-6, -2e-6):
                weight[index] += change
                values.append(loss().item())
            weight[index] += 1e-6
            assert gradient[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_a_plan_depends_on_its_belief_and_the_seed_alone():
    phase, given = module(), steps(1, 5)
    belief = Belief(given.deter[0], given.stoch[0])
    whole = phase.planner.act(phase.world_model, belief, seed=1)
    part = phase.planner.act(phase.world_model, Belief(*(each[2:4] for each in belief)), seed=1)
    assert torch.allclose(whole[2:4], part, atol=1e-6)
    assert not torch.allclose(whole, phase.planner.act(phase.world_model, belief, seed=2))


def test_too_large_a_step_leaves_the_rest_of_the_passes_to_the_value(tmp_path):
    torch.manual_seed(0)
    rows, phase, _ = recorded(tmp_path, 2, learner={"max_kl": 1e-12}, tuned={"decoder": {"lr": 0.05}})
    assert [row["train/policy_kl"] > 0 for row in rows] == [False, True, False, True]  # one update an epoch counts
    once = module()
    assert not torch.equal(
        phase.policy_gradient.value.layers.first.weight, once.policy_gradient.value.layers.first.weight
    )


def test_the_value_may_learn_first(tmp_path):
    torch.manual_seed(0)
    before = module().state_dict()
    rows, phase, _ = recorded(tmp_path / "first", 2, learner={"value_steps": 2})
    assert rows == []
    for name, value in phase.planner.decoder.state_dict().items():
        assert torch.equal(value, before[f"planner.decoder.{name}"]), name
    rows, *_ = recorded(tmp_path / "then", 3, learner={"value_steps": 2})
    assert len(rows) == 4


class Batches(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(batch)


def test_the_value_learns_from_all_steps_where_the_policy_learns_from_some(tmp_path):
    batches = Batches()
    fit(tmp_path, 1, make=parts, also=[batches], rollouts={"batch_steps": 1, "passes": 1, "num_batches": 3})
    shares = [batch.share.sample for batch in batches.seen]
    assert len(torch.cat(shares)) == 20 + 1  # the episodes of two environments; the last share begins anew
    assert len(torch.cat(shares).unique(dim=0)) == 20
    for batch in batches.seen:
        assert torch.equal(batch.steps.sample, batch.share.sample[:1])


def phase2(path):
    """A checkpoint of phase 2, as the command line writes it."""
    torch.manual_seed(4)
    decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1)
    model = PlanetPhase2(WorldModel(3, 1, **SIZES), LatentPlanner(decoder, DCEM(**SEARCH)))
    model.world_model.scale.std.fill_(2.0)
    save(path, model)
    return model


def save(path, model):
    """As the command line does."""
    options = {"env": ROLLOUTS["env"], "action_repeat": ROLLOUTS["action_repeat"]}
    content = {"state_dict": model.state_dict(), "global_step": 1, "datamodule_hyper_parameters": options}
    torch.save({**content, "hyper_parameters": {"_class_path": f"lit_dcem.{type(model).__name__}"}}, path)


def test_starts_from_phase_2(tmp_path):
    model = phase2(tmp_path / "phase2.ckpt")
    still = {"tuned": {"decoder": {"lr": 0.0}}}
    phase, *_ = fit(tmp_path / "run", 1, make=parts, start=str(tmp_path / "phase2.ckpt"), **still)
    theirs = {name: value for name, value in model.state_dict().items() if "metric" not in name}
    for name, value in theirs.items():
        assert torch.equal(phase.state_dict()[name], value), name


def test_goes_on_from_a_checkpoint_of_its_own(tmp_path):
    earlier, _ = parts(seed=9)
    save(tmp_path / "phase3.ckpt", earlier)
    still = {"tuned": {"decoder": {"lr": 0.0}}, "value_options": {"lr": 0.0}, "learner": {"std": 0.2}}
    phase, *_ = fit(tmp_path / "run", 1, make=parts, start=str(tmp_path / "phase3.ckpt"), **still)
    for name, value in earlier.state_dict().items():
        given = name in ("policy_gradient.log_std", "policy_gradient.stopped")  # by the new run
        assert given or torch.equal(phase.state_dict()[name], value), name
    assert phase.policy_gradient.std.item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hyper_parameters": {"_class_path": "lit_dcem.PlanetPhase1"}},
            "of PlanetPhase2 or PlanetPhase3 or PlanetJoint, got one",
        ),
        ({"datamodule_hyper_parameters": {"env": "walker-walk", "action_repeat": 2}}, "walker-walk with action repeat"),
        ({"state_dict": {}}, "must have the shapes of the model, got none and"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(tmp_path, changes, message):
    path = tmp_path / "phase2.ckpt"
    phase2(path)
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    with pytest.raises(UsageError, match=message):
        fit(tmp_path / "run", 1, make=parts, start=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuned": {}}, "tuned must be some of decoder, reward, transition, got none"),
        ({"tuned": {"head": {}}}, "got head"),
        ({"tuned": {"reward": {}}, "solver": SEARCH}, "reach reward at a temperature above 0 alone, got temperature 0"),
        ({"tuned": {"reward": {}}, "planner": {"precision": "bfloat16"}}, "in precision float32 alone, got bfloat16"),
        ({"planner": {"warm_start": True}}, "begins from zero each time, got one with warm_start"),
        ({"learner": {"std": 0.0}}, "std must be positive and finite, got 0.0"),
        ({"learner": {"gae_lambda": 1.5}}, "discount and gae_lambda between 0 and 1, got"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        module(**options)


def test_other_data_is_one_sentence(tmp_path):
    other = Rollouts("Pendulum-v1", evaluation_episodes=1)
    with pytest.raises(UsageError, match=r"PlanetPhase3 learns from lit_dcem\.OnPolicyRollouts, got Rollouts as data"):
        fit(tmp_path, 1, make=lambda: (module(), other))


@pytest.mark.slow
def test_killed_run_goes_on_bit_identical(tmp_path):
    assert_killed_run_goes_on(tmp_path, 20, __name__)


@pytest.mark.slow
def test_two_processes_collect_their_own_episodes_and_learn_as_one(tmp_path):
    ranks, saved = distributed(tmp_path, __name__)
    assert [len(rank) for rank in ranks] == [16, 16]
    assert ranks[0] != ranks[1]
    assert len(saved["OnPolicyRollouts"]["ranks"]) == 2
