"""Planners that see past their horizon, and the phases of PlaNet that teach them to."""

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from support.phases import (
    ROLLOUTS,
    SEARCH,
    SIZES,
    assert_killed_run_goes_on,
    assert_same,
    distributed,
    fit,
    lines,
)  # fmt: skip
from support.planning import LinearModel, place

from lit_dcem import (
    DCEM,
    ActionDecoder,
    CEMPlanner,
    JointRollouts,
    LatentPlanner,
    OnPolicyRollouts,
    PlanetJoint,
    PlanetPhase1,
    PlanetPhase2,
    PlanetPhase3,
    PolicyGradient,
    Rollouts,
    ValueEnsemble,
    ValueHead,
    ValueLearning,
    WorldModel,
)
from lit_dcem.errors import UsageError
from lit_dcem.planet.evaluate import _planner
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.planning import imagination
from lit_dcem.planet.planning.problem import Problem

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
LEARNING = {"imagined_steps": 2, "num_windows": 8, "held_back": 2, "measure_interval": 4, "options": {"lr": 1e-2}}

ON_POLICY = {"env": "Pendulum-v1", "action_repeat": 20, "num_envs": 2, "num_episodes": 2, "num_batches": 2, "seed": 3}


def ensemble(seed=0, weight=0.0, **options):
    torch.manual_seed(seed)
    value = ValueEnsemble(8, 3, **{"hidden_dim": 8, "num_layers": 1, "scale": 10.0, **options})
    value.weight.fill_(weight)
    return value


def world(**options):
    torch.manual_seed(1)
    return WorldModel(3, 1, **SIZES, **options)


def imagined(horizon=4):
    """Beliefs of two environments, actions of five candidates and noise."""
    torch.manual_seed(2)
    belief = Belief(torch.randn(2, 1, 8).tanh(), torch.randn(2, 1, 3))
    return belief, torch.rand(horizon, 2, 5, 1) * 2 - 1, torch.randn(horizon, 2, 5, 3)


# Imagination


@pytest.mark.parametrize("step_by_step", [True, False], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("pessimistic", [True, False])
def test_the_value_is_added_at_the_last_belief(step_by_step, pessimistic):
    model, value, given = world(), ensemble(weight=0.7, pessimistic=pessimistic), imagined()
    last = Belief(*(part[-1] for part in model.rssm.imagine(*given[:2], noise=given[2])))
    heads = value(last)
    assert heads.shape == (2, 2, 5) and not torch.allclose(heads[0], heads[1])
    rewards = imagination._returns(model, *given, step_by_step)
    returns = imagination._returns(model, *given, step_by_step, value)
    expected = heads.min(0).values if pessimistic else heads.mean(0)
    torch.testing.assert_close(returns, rewards + 0.7 * expected)
    torch.testing.assert_close(imagination._returns(model, *given, step_by_step, ensemble()), rewards)


def test_nothing_is_expected_beyond_the_end_of_a_task():
    model, value, given = world(termination_weight=1.0), ensemble(weight=1.0), imagined()
    beliefs = model.rssm.imagine(*given[:2], noise=given[2])
    alive = imagination.survival(model.termination(beliefs))[-1]
    worth = value.estimate(Belief(*(part[-1] for part in beliefs)))
    more = imagination._returns(model, *given, True, value) - imagination._returns(model, *given, True)
    torch.testing.assert_close(more, alive * worth)


# Planners


class Goal(ValueEnsemble):
    """Values places by how near they are to 1."""

    def __init__(self):
        super().__init__(4, 1)

    def forward(self, belief):
        return -5 * (belief.deter.chunk(2, -1)[0] - 1).square().sum(-1).unsqueeze(0)


@torch.no_grad()
@pytest.mark.parametrize(("weight", "least", "most"), [(0.0, -0.05, 0.05), (1.0, 0.5, 1.0)])
def test_a_planner_goes_where_the_value_is(weight, least, most):
    value, search = Goal(), {"num_candidates": 300, "num_elites": 20, "num_iterations": 10, "temperature": 0.0}
    value.weight.fill_(weight)
    planner = CEMPlanner(DCEM(**search), horizon=3, value=value, precision="float32")
    torch.manual_seed(0)
    plan = planner.solve(Problem(LinearModel(), place([0.0, 0.0]))).mean.view(3, 2)
    end = 0.25 * plan[0] + 0.5 * plan[1] + plan[2]
    assert (least < end).all() and (end < most).all()


def test_kept_plans_are_compared_by_what_follows_them_too():
    value = Goal()
    planner = CEMPlanner(DCEM(**SEARCH), horizon=3, keep_plans=True, value=value, precision="float32")
    still, moving = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    kept = []
    for weight in (0.0, 10.0):
        value.weight.fill_(weight)
        rest = planner.rest_of({"plan": moving}, torch.tensor([False]))
        kept.append(planner._keeps(Problem(LinearModel(), place([0.0, 0.0])), rest, still).item())
    assert kept == [False, True]


def test_sizes_of_the_value_are_checked():
    with pytest.raises(ValueError, match="deter_dim and stoch_dim of its world model, 8 and 3, got 9 and 3"):
        PlanetPhase1(world(), CEMPlanner(DCEM(**SEARCH), horizon=3, value=ValueEnsemble(9, 3)))


@pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")
def test_copies_in_another_precision_follow_the_value():
    model, value = world(), ensemble(weight=1.0)
    planner = CEMPlanner(DCEM(**SEARCH), horizon=3, precision="bfloat16", value=value)
    belief, points = Belief(torch.zeros(1, 8), torch.zeros(1, 3)), torch.zeros(1, 2, 3)
    values = []
    for weight, bias in ((1.0, 0.0), (1.0, 8.0), (0.5, 8.0)):
        value.weight.fill_(weight)
        for head in value.heads:
            torch.nn.init.zeros_(head.layers.rest[-1].weight)
            torch.nn.init.constant_(head.layers.rest[-1].bias, bias)
        torch.manual_seed(0)
        values.append(planner.objective(Problem(model, belief))(points))
    torch.testing.assert_close(values[0] - values[1], torch.full((1, 2), 80.0), atol=0.5, rtol=0)
    torch.testing.assert_close(values[0] - values[2], torch.full((1, 2), 40.0), atol=0.5, rtol=0)
    assert value.heads[0].layers.first.weight.requires_grad


# Phases


def parts(learning=LEARNING, data=None, **options):
    planner = CEMPlanner(DCEM(**SEARCH), horizon=3, warm_start=True, value=ensemble() if learning else None)
    learning = ValueLearning(**learning) if learning else None
    return PlanetPhase1(world(), planner, normalize=True, value_learning=learning, **options), Rollouts(
        **{**ROLLOUTS, **(data or {})}
    )


def phase2(value=True, learning=LEARNING, **options):
    torch.manual_seed(0)
    decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1, init_scale=3.0)
    planner = LatentPlanner(decoder, DCEM(**SEARCH), value=ensemble(5) if value else None)
    learning = ValueLearning(**learning) if value and learning else None
    settings = {"training_solver": DCEM(**SEARCH, trace=True), "num_beliefs": 3, "normalize": True, **options}
    return PlanetPhase2(world(), planner, value_learning=learning, **settings)


def phase2_parts(**options):
    return phase2(**options), Rollouts(**ROLLOUTS)


def phase3(value=True, **options):
    torch.manual_seed(0)
    decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1)
    planner = LatentPlanner(decoder, DCEM(**SEARCH), value=ensemble(6) if value else None)
    own = ValueHead(8, 3, hidden_dim=8, num_layers=1, scale=5.0)
    return PlanetPhase3(world(), planner, PolicyGradient(own, 1), **options), OnPolicyRollouts(**ON_POLICY)


@pytest.mark.parametrize("make", [parts, pytest.param(phase2_parts, marks=pytest.mark.slow)])
def test_the_value_is_learned_beside_the_model_and_resumes_exactly(tmp_path, make):
    model, *_ = fit(tmp_path / "whole", make=make)
    fit(tmp_path / "cut", 2, make=make)
    torch.manual_seed(9)
    fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", make=make)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")
    for moved, slow, begun in zip(
        model.planner.value.parameters(), model.value_learning.target.parameters(), ensemble().parameters(), strict=True
    ):
        assert not torch.equal(moved, slow) and not torch.equal(moved, begun)
    assert model.value_learning.accuracy != 0 and 0 <= model.planner.value.weight <= 1


def test_a_model_learns_the_same_beside_a_value_that_does_not_weigh(tmp_path):
    """What differs is what is drawn; so off line, from the same episodes, with no noise but the model's."""
    frozen = {"smoothing": 0.0, "options": {"lr": 0.0}}
    for name, learning in (("with", {**LEARNING, **frozen}), ("without", None)):
        model, *_ = fit(tmp_path / name, 1, make=parts, learning=learning, data={"updates_per_epoch": 1})
        weights = model.world_model.state_dict()
        if name == "with":
            first = weights
    assert all(torch.equal(first[name], weights[name]) for name in weights)


def test_it_is_learned_beside_a_policy(tmp_path):
    def make():
        torch.manual_seed(0)
        decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1)
        planner = LatentPlanner(decoder, DCEM(**{**SEARCH, "temperature": 1.0}), value=ensemble())
        learner = PolicyGradient(ValueHead(8, 3, hidden_dim=8, num_layers=1), 1)
        options = {"value_learning": ValueLearning(**LEARNING), "num_beliefs": 3, "normalize": True}
        rollouts = {**ON_POLICY, "batch_size": 4, "sequence_length": 5}
        return PlanetJoint(world(), planner, learner, **options), JointRollouts(**rollouts)

    model, *_ = fit(tmp_path, 3, make=make)
    assert model.value_learning.accuracy != 0
    assert {"train/value", "train/value_loss"} <= model.trainer.callback_metrics.keys()


def test_gradients_of_model_and_value_are_clipped_apart():
    phase, _ = parts()
    optimizer = phase.configure_optimizers()
    for parameter in phase.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3) if parameter.requires_grad else None
    for parameter in phase.planner.value.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    phase.configure_gradient_clipping(optimizer, 2.0, "norm")
    model, value = ([parameter.grad for parameter in group["params"]] for group in optimizer.param_groups)
    assert torch.cat([grad.flatten() for grad in value]).norm().item() == pytest.approx(2.0)
    assert model[0].max().item() == pytest.approx(1e-3)


def test_a_decoder_learns_to_reach_what_is_valued_and_the_value_nothing_from_it():
    phase = phase2()
    torch.nn.init.zeros_(phase.world_model.reward_head.rest[-1].weight)
    belief = Belief(torch.rand(4, 8), torch.randn(4, 3))
    decoder, norms = list(phase.planner.decoder.parameters()), []
    for weight in (0.0, 1.0):
        phase.planner.value.weight.fill_(weight)
        phase.zero_grad()
        phase.decoder_learning.loss(belief).backward()
        norms.append(sum(parameter.grad.abs().sum().item() for parameter in decoder))
        moved = [name for name, each in phase.named_parameters() if each.grad is not None and each.grad.any()]
        assert all(name.startswith("planner.decoder") for name in moved)
    assert norms[0] == 0 and norms[1] > 0


def test_learning_needs_a_value():
    with pytest.raises(ValueError, match="value_learning must come with a value of the planner, got none"):
        PlanetPhase1(world(), CEMPlanner(DCEM(**SEARCH), horizon=3), value_learning=ValueLearning())


def test_a_value_that_is_not_learned_stays(tmp_path):
    model, *_ = fit(tmp_path, 1, make=lambda: (phase2(learning=None), Rollouts(**ROLLOUTS)))
    assert all(
        torch.equal(a, b) for a, b in zip(model.planner.value.parameters(), ensemble(5).parameters(), strict=True)
    )


# From one phase to the next


def saved(path, module, name):
    options = {"env": ROLLOUTS["env"], "action_repeat": ROLLOUTS["action_repeat"]}
    content = {"state_dict": module.state_dict(), "global_step": 1, "datamodule_hyper_parameters": options}
    torch.save({**content, "hyper_parameters": {"_class_path": f"lit_dcem.{name}"}}, path)
    return str(path)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_phase_2_takes_the_value_over_if_both_have_one(tmp_path, before, after):
    earlier, _ = parts(LEARNING if before else None)
    if before:
        earlier.planner.value = ensemble(7, weight=0.4, scale=20.0)
    start = saved(tmp_path / "phase1.ckpt", earlier, "PlanetPhase1")
    still = {
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.0),
        "learning": {**LEARNING, "options": {}, "smoothing": 0.0},
    }
    phase, *_ = fit(tmp_path / "run", 1, make=phase2_parts, value=after, start=start, **still)
    if before and after:
        for name, tensor in earlier.planner.value.state_dict().items():
            assert torch.equal(phase.planner.value.state_dict()[name], tensor), name
            assert name == "weight" or torch.equal(phase.value_learning.target.state_dict()[name], tensor), name
    elif after:
        assert phase.planner.value.weight == 0


@pytest.mark.parametrize("value", [True, False])
def test_phase_3_begins_with_the_value_of_phase_2(tmp_path, value):
    earlier = phase2()
    earlier.planner.value = ensemble(7, weight=0.4, scale=20.0)
    start = saved(tmp_path / "phase2.ckpt", earlier, "PlanetPhase2")
    still = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.0)}
    phase, *_ = fit(tmp_path / "run", 1, make=phase3, value=value, start=start, **still)
    belief = Belief(torch.rand(4, 8), torch.randn(4, 3))
    torch.testing.assert_close(phase.policy_gradient.value(belief), earlier.planner.value(belief)[0])
    if value:
        assert phase.planner.value.weight == earlier.planner.value.weight
        assert not any(parameter.requires_grad for parameter in phase.planner.value.parameters())
    again = saved(tmp_path / "phase3.ckpt", phase, "PlanetPhase3")
    after, *_ = fit(tmp_path / "again", 1, make=phase3, value=value, start=again, **still)
    torch.testing.assert_close(after.policy_gradient.value(belief), phase.policy_gradient.value(belief))


def test_another_planner_is_given_the_value_if_it_has_one():
    phase, _ = parts()
    other = CEMPlanner(DCEM(**SEARCH), horizon=5, value=ensemble(3))
    assert _planner(phase, other).value is phase.planner.value
    assert _planner(phase, CEMPlanner(DCEM(**SEARCH), horizon=5)).value is None
    with pytest.raises(UsageError, match="A planner with a value needs a checkpoint with one, got one of PlanetPhase1"):
        _planner(parts(None)[0], other)


@pytest.mark.parametrize("make", [parts, pytest.param(phase2_parts, marks=pytest.mark.slow)])
def test_averaged_weights_resume_exactly(tmp_path, make):
    fit(tmp_path / "whole", make=make, also=[EMAWeightAveraging(decay=0.9)])
    fit(tmp_path / "cut", 3, make=make, also=[EMAWeightAveraging(decay=0.9)])
    fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", make=make, also=[EMAWeightAveraging(decay=0.9)])
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_killed_run_goes_on_bit_identical(tmp_path):
    assert_killed_run_goes_on(tmp_path, 20, __name__)


@pytest.mark.slow
def test_two_processes_trust_the_value_alike(tmp_path):
    ranks, saved = distributed(tmp_path, __name__)
    assert [len(rank) for rank in ranks] == [20, 20]
    assert saved["state_dict"]["value_learning.accuracy"] != 0
