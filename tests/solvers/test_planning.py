"""Plans in models of one's own: optima, gradients, warm starts, knots, kept plans, values, proposals and risk."""

import inspect
import re
import subprocess
import sys
import textwrap
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from lit_dcem import DCEM, Memory, Planner, UnrolledGD
from lit_dcem.solvers import planning
from lit_dcem.solvers.prediction import mean_of_worst

CEM = DCEM(num_candidates=60, num_elites=10, num_iterations=5, temperature=0.0)
SOFT = DCEM(num_candidates=12, num_elites=4, num_iterations=3)
STATE = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [0.2, -1.0]], dtype=torch.float64)


class Linear:
    """``s' = s A + a B`` with a quadratic reward."""

    def __init__(self, weight: float | Tensor = 0.1) -> None:
        self.dynamics = torch.tensor([[1.0, 0.0], [0.1, 1.0]], dtype=torch.float64)
        self.push = torch.tensor([[0.0, 0.1]], dtype=torch.float64)
        self.weight = weight

    def step(self, state, action):
        return state @ self.dynamics + action @ self.push

    def reward(self, state, action):
        return -state.square().sum(-1) - self.weight * action.square().sum(-1)


class AtOnce(Linear):
    """The same by one call for all steps."""

    def rollout(self, state, actions):
        state, rewards = state.unsqueeze(1), []
        for action in actions.unbind(2):
            rewards.append(self.reward(state, action))
            state = self.step(state, action)
        return torch.stack(rewards, -1), state


class Noisy:
    """An action pays what it is, with noise in proportion to it."""

    def step(self, state, action):
        return state

    def reward(self, state, action):
        action = action.squeeze(-1)
        return action + 3 * action.abs() * torch.randn_like(action) + 0 * state.sum(-1)


class Pair(NamedTuple):
    position: Tensor
    velocity: Tensor


ANNOTATED = """
from jaxtyping import install_import_hook

install_import_hook("lit_dcem", "beartype.beartype")

import torch
from lit_dcem import DCEM, Planner, UnrolledGD
from lit_dcem.cartpole.dynamics import Cartpole

state, memory = torch.ones(3, 5), None
options = {"lower": [-1.0], "upper": 1.0, "std": torch.ones(3, 1), "value": lambda s: s[..., 0], "keep_plans": True}
options |= {"knots": 3, "num_samples": 2, "proposals": lambda s: torch.zeros(3, 2, 6, 1)}
for solver in (DCEM(num_candidates=9, num_elites=3, num_iterations=2), UnrolledGD()):
    for risk in ("mean", 0.5):
        planner = Planner([Cartpole()] * 2, solver, 6, 1, risk=risk, **options)
        for _ in range(2):
            action, memory = planner.act(state, memory, torch.Generator())
        memory = memory.without(torch.tensor([True, False, True]))
"""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def riccati(horizon: int, model: Linear) -> tuple[Tensor, Tensor]:
    """Gain ``a = s K`` of the first step, and the matrix of the cost to go ``s P s``."""
    a, b = model.dynamics.T, model.push.T
    eye, after = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    gain = torch.zeros(1, 2, dtype=torch.float64)
    for _ in range(horizon):
        gain = -torch.linalg.solve(model.weight * torch.eye(1, dtype=torch.float64) + b.T @ after @ b, b.T @ after @ a)
        after = eye + a.T @ after @ (a + b @ gain)
    return gain.T, after


def test_the_example_of_the_module_is_short_and_runs():
    example = re.search(r"::\n\n(.*?)\n\n\S", inspect.getdoc(planning) or "", re.DOTALL)
    assert example
    code = textwrap.dedent(example.group(1))
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names = {}
    exec(code, names)
    plan = names["plan"]
    assert plan.actions.shape == (1, 20, 1) and (plan.actions.abs() <= 1).all()
    assert plan.value.item() > -14 and plan.actions[0, 0, 0] < -0.9
    assert planning.__doc__ and "action, memory = planner.act(state, memory)" in planning.__doc__
    action, memory = names["planner"].act(torch.tensor([[1.0, 0.0]]), plan.memory)
    assert action.shape == (1, 1) and memory.plan.shape == (1, 20, 1)


@pytest.mark.parametrize(
    "solver",
    [CEM.replace(num_candidates=200, num_elites=40, num_iterations=40), UnrolledGD(num_steps=100, lr=0.5)],
    ids=["cem", "gd"],
)
def test_a_linear_quadratic_problem_has_its_optimum(solver):
    gain, cost = riccati(12, Linear())
    plan = Planner(Linear(), solver, 12, 1)(STATE, generator=seeded())
    assert_close(plan.value, -torch.einsum("bi,ij,bj->b", STATE, cost, STATE), rtol=1e-3, atol=0)
    assert_close(plan.actions[:, 0], STATE @ gain, rtol=0, atol=0.03)


def test_value_after_the_horizon_replaces_a_longer_one():
    gain, _ = riccati(12, Linear())
    _, cost = riccati(9, Linear())
    value = lambda state: -torch.einsum("...i,ij,...j->...", state, cost, state)  # noqa: E731
    for model in (Linear(), AtOnce()):
        plan = Planner(model, UnrolledGD(num_steps=100, lr=0.2), 3, 1, value=value)(STATE)
        assert_close(plan.actions[:, 0], STATE @ gain, rtol=0, atol=0.01)


@pytest.mark.parametrize("options", [{}, {"value": lambda state: state.sum(-1), "discount": 0.9}])
def test_models_with_a_rollout_of_their_own_plan_the_same(options):
    one, other = (Planner(model, CEM, 5, 1, **options)(STATE, generator=seeded()) for model in (Linear(), AtOnce()))
    assert_close(one.actions, other.actions, rtol=0, atol=0)
    assert_close(one.value, other.value)


def test_states_are_any_tree_of_tensors():
    class Trees:
        def step(self, state, action):
            pair = state["pair"]
            moved = Linear().step(torch.stack(pair, -1), action)
            return {"pair": Pair(*moved.unbind(-1)), "time": state["time"] + 1}

        def reward(self, state, action):
            assert (state["time"] < 5).all() and state["time"].shape == action.shape[:-1]
            return Linear().reward(torch.stack(state["pair"], -1), action)

    state = {"time": torch.zeros(3, dtype=torch.int64), "pair": Pair(*STATE.unbind(-1))}
    one, other = Planner(Trees(), CEM, 5, 1), Planner(Linear(), CEM, 5, 1)
    assert_close(one(state, generator=seeded()).actions, other(STATE, generator=seeded()).actions, rtol=0, atol=0)


def test_each_problem_is_planned_by_itself():
    planner = Planner(Linear(), CEM.replace(common_noise=True), 5, 1)
    together = planner(STATE, generator=seeded()).actions
    assert_close(together[1:2], planner(STATE[1:2], generator=seeded()).actions)


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        (SOFT, {}),
        (SOFT, {"knots": 2, "lower": -0.5, "upper": [0.5], "answer": "best"}),
        (SOFT.replace(noise_exponent=1.0, horizon=2), {"risk": 0.6, "discount": 0.9}),
        (SOFT, {"value": lambda state: -state.square().sum(-1), "proposals": lambda state: state[:, :1, None, None]}),
        (UnrolledGD(num_steps=4, lr=0.3), {"knots": 2, "interpolation": "constant"}),
    ],
)
def test_gradient_of_a_plan_matches_finite_differences(solver, options):
    """Differentiable MPC: through the whole search, and through a model that learns."""

    def plan(weight):
        horizon = 1 if "proposals" in options else 4
        models = [Linear(weight), Linear(2 * weight)] if "risk" in options else Linear(weight)
        found = Planner(models, solver, horizon, 1, **options)(STATE, generator=seeded())
        return found.actions, found.value

    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(plan, weight, rtol=1e-4, atol=1e-8)


def test_hard_searches_and_acting_keep_no_graph():
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert not Planner(Linear(weight), CEM, 4, 1)(STATE).value.requires_grad
    plan = Planner(Linear(weight), SOFT, 4, 1)(STATE)
    assert plan.value.requires_grad and not plan.memory.mean.requires_grad
    action, memory = Planner(Linear(weight), SOFT, 4, 1).act(STATE)
    assert not action.requires_grad and not memory.plan.requires_grad


def test_a_model_that_is_a_module_is_part_of_the_planner():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 2)

        def step(self, state, action):
            return self.net(torch.cat([state, action], -1))

        def reward(self, state, action):
            return -state.square().sum(-1)

    planner = Planner([Learned(), Learned()], SOFT, 3, 1)
    assert len(list(planner.parameters())) == 4
    planner(STATE.float()).actions.sum().backward()
    assert all(parameter.grad is not None for parameter in planner.parameters())


def test_warm_start_begins_with_the_last_plan_one_step_later():
    planner = Planner(Linear(), CEM.replace(trace=True), 5, 1)
    first = planner(STATE, generator=seeded())
    (begin, *_) = planner(STATE, first.memory).solution.trace
    shifted = torch.cat([first.solution.mean[:, 1:], first.solution.mean[:, -1:]], 1)
    assert_close(begin.mean, shifted, rtol=0, atol=0)
    best = torch.cat([first.solution.best[:, 1:], first.solution.best[:, -1:]], 1).unsqueeze(1)
    assert (begin.candidates == best).all(-1).any(-1).all()
    (begin, *_) = Planner(Linear(), CEM.replace(trace=True), 5, 1, warm_start=False)(STATE, first.memory).solution.trace
    assert (begin.mean == 0).all()


def test_gradient_descent_starts_warm_at_the_best_known_point():
    planner = Planner(Linear(), UnrolledGD(num_steps=5, lr=0.5), 12, 1)
    first = planner(STATE)
    state = Linear().step(STATE, first.actions[:, 0])
    assert (planner(state, first.memory).value > planner(state).value).all()


def test_problems_that_ended_begin_anew():
    planner = Planner(Linear(), CEM.replace(trace=True), 5, 1, lower=0.0, upper=2.0, keep_plans=True)
    memory = planner(STATE, generator=seeded()).memory.without(torch.tensor([False, True, False]))
    plan = planner(STATE, memory, seeded())
    begin = plan.solution.trace[0].mean
    assert_close(begin[1], torch.ones_like(begin[1]))  # the middle of the bounds
    assert (begin[[0, 2]] != 1).all() and plan.actions.isfinite().all()


def test_a_model_that_breaks_down_spoils_its_own_problem_only():
    class Breaking(Linear):
        def reward(self, state, action):
            return torch.where(state[..., 0] < 0, torch.nan, super().reward(state, action))

    planner = Planner(Breaking(), CEM, 2, 1)
    plan = planner(STATE)
    assert plan.actions.isfinite().flatten(1).all(1).tolist() == [True, False, True]
    assert planner(STATE.abs(), plan.memory).actions.isfinite().all()


@pytest.mark.parametrize("interpolation", ["linear", "constant"])
def test_few_knots_make_smooth_or_blocked_actions(interpolation):
    planner = Planner(Linear(), CEM, 12, 1, knots=3, interpolation=interpolation, lower=-0.4, upper=0.4)
    plan = planner(STATE)
    assert plan.solution.mean.shape == (3, 3) and plan.actions.shape == (3, 12, 1)
    assert (plan.actions.abs() <= 0.4).all()
    if interpolation == "constant":
        assert_close(plan.actions.squeeze(-1), plan.solution.mean.repeat_interleave(4, 1))
    else:
        assert_close(plan.actions[:, [0, -1], 0], plan.solution.mean[:, [0, 2]])
        assert (plan.actions.diff(n=2, dim=1).abs() > 1e-9).sum(1).le(2).all()  # bends at the middle knot alone
    assert_close(planner.knots.points(plan.actions), plan.solution.mean)


def test_knots_advance_in_time():
    ramp = torch.arange(9, dtype=torch.float64).view(1, 9, 1)
    for knots in (9, 5):
        knots = planning.Knots(9, knots, "linear")
        later = knots.actions(knots.advance(knots.points(ramp)))
        assert_close(later[:, :6], ramp[:, 1:7], rtol=0, atol=0.25)
    blocks = planning.Knots(8, 2, "constant")
    assert_close(blocks.advance(torch.tensor([[0.0, 1.0]])), torch.tensor([[0.25, 1.0]]))


def test_kept_plans_are_never_worse_than_the_rest_of_the_last():
    poor = DCEM(num_candidates=3, num_elites=1, num_iterations=1, temperature=0.0)
    planner = Planner(AtOnce(), poor, 8, 1, keep_plans=True, warm_start=False)
    good = Planner(Linear(), CEM, 8, 1)(STATE)
    state = Linear().step(STATE, good.actions[:, 0])
    rest = torch.cat([good.actions[:, 1:], good.actions[:, -1:]], 1)
    plan = planner(state, good.memory, seeded())
    assert_close(plan.actions, rest, rtol=0, atol=0)
    assert_close(plan.value, planner.returns(state, rest.unsqueeze(1)).squeeze(1))
    bad = Memory(good.memory.mean, good.memory.best, 100 * torch.ones_like(rest))
    assert (planner(state, bad).actions.abs() < 10).all()


@pytest.mark.parametrize(
    ("own", "given", "mean", "std", "bounds"),
    [
        ({"lower": 0.0, "upper": 10.0}, {}, 5.0, 5.0, (0.0, 10.0)),
        ({"lower": -1.0, "upper": 1.0}, {"lower": -0.5}, 0.25, 0.75, (-0.5, 1.0)),
        ({"upper": 1.0}, {}, 0.0, 1.0, (None, 1.0)),
        ({"upper": [1.0, 3.0, 5.0, 7.0]}, {"lower": -1.0}, [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], None),
        ({"upper": torch.ones(3, 4), "lower": torch.zeros(3, 4)}, {}, 0.0, 1.0, None),
    ],
)
@pytest.mark.parametrize("kind", [DCEM, UnrolledGD])
def test_bounds_that_are_not_given_are_those_of_the_solver(kind, own, given, mean, std, bounds):
    """The first candidates, too, lie between them; a bound for each problem leaves them at 0, with 1."""
    planner = Planner(Linear(), kind(**own, trace=True), 4, 1, **given)
    solution = planner(STATE).solution
    start = solution.trace[0]
    assert_close(start.mean, torch.tensor(mean).double().expand(3, 4))
    if kind is DCEM:
        assert_close(start.std, torch.tensor(std).double().expand(3, 4))
    if bounds is not None:
        assert solution.bounds == bounds


def test_first_std_may_differ_between_steps_and_dimensions():
    std = torch.tensor([[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]])

    class Two(Linear):
        def step(self, state, action):
            return super().step(state, action[..., :1])

    solver = CEM.replace(trace=True)
    for given, expected in ((std, std), (0.5, torch.full((3, 2), 0.5)), ([1.0, 2.0], torch.tensor([[1.0, 2.0]] * 3))):
        begin = Planner(Two(), solver, 3, 2, std=given)(STATE).solution.trace[0]
        assert_close(begin.std, expected.flatten().double().expand(3, 6))
    begin = Planner(Two(), solver, 3, 2, lower=[-1.0, 0.0], upper=[1.0, 6.0])(STATE).solution.trace[0]
    assert_close(begin.std, torch.tensor([1.0, 3.0] * 3).double().expand(3, 6))
    assert_close(begin.mean, torch.tensor([0.0, 3.0] * 3).double().expand(3, 6))


@pytest.mark.parametrize(("bounds", "optimum"), [({"lower": 5.0}, 6.5), ({"upper": -5.0}, -6.5)])
def test_one_bound_leaves_room_to_search(bounds, optimum):
    class To(Linear):
        def reward(self, state, action):
            return -(action - optimum).square().sum(-1)

    plan = Planner(To(), CEM.replace(num_iterations=20), 3, 1, **bounds)(STATE)
    assert_close(plan.actions, torch.full_like(plan.actions, optimum), atol=0.05, rtol=0)


@pytest.mark.parametrize("solver", [CEM, UnrolledGD(num_steps=0)])
def test_a_policy_can_propose_candidates(solver):
    optimum = Planner(Linear(), CEM.replace(num_iterations=30), 12, 1)(STATE, generator=seeded())
    proposed = torch.stack([0 * optimum.actions, optimum.actions], 1)
    plan = Planner(Linear(), solver, 12, 1, proposals=lambda state: proposed, answer="best", std=1.0)(STATE)
    assert (plan.value >= optimum.value - 1e-9).all()


def test_risk_is_the_mean_or_the_worst_share():
    outcomes = torch.tensor([[4.0, 1.0, 3.0, 2.0], [0.0, torch.nan, 0.0, 0.0]])
    assert_close(mean_of_worst(outcomes, 0.5), torch.tensor([1.5, -torch.inf]))
    assert_close(mean_of_worst(outcomes[:1], 0.625), torch.tensor([(1 + 2 + 0.5 * 3) / 2.5]))
    assert_close(mean_of_worst(outcomes[:1], 1.0), torch.tensor([2.5]))
    assert_close(mean_of_worst(outcomes[:1], 0.01), torch.tensor([1.0]))


def test_the_cautious_avoid_what_varies():
    torch.manual_seed(0)
    bold, cautious = (
        Planner(Noisy(), CEM, 1, 1, lower=-1.0, upper=1.0, num_samples=50, risk=risk)(STATE) for risk in ("mean", 0.2)
    )
    assert (bold.actions > 0.5).all() and (cautious.actions.abs() < 0.1).all()


def test_an_ensemble_counts_each_model_the_same():
    models = [Linear(0.1), Linear(0.5)]
    actions = torch.randn(3, 4, 5, 1, dtype=torch.float64, generator=seeded())
    one, two = (Planner(model, CEM, 5, 1).returns(STATE, actions) for model in models)
    assert_close(Planner(models, CEM, 5, 1).returns(STATE, actions), (one + two) / 2)
    assert_close(Planner(models, CEM, 5, 1, risk=0.5).returns(STATE, actions), torch.minimum(one, two))


def test_later_rewards_can_be_discounted():
    actions = torch.randn(3, 1, 2, 1, dtype=torch.float64, generator=seeded())
    first = Planner(Linear(), CEM, 2, 1, discount=0.0).returns(STATE, actions)
    both = Planner(Linear(), CEM, 2, 1).returns(STATE, actions)
    half = Planner(Linear(), CEM, 2, 1, discount=0.5).returns(STATE, actions)
    assert_close(first, Linear().reward(STATE, actions[:, 0, 0]).unsqueeze(1))
    assert_close(half, (first + both) / 2)


def test_the_generator_alone_decides():
    planner = Planner(Linear(), CEM, 5, 1)
    plans = [planner(STATE, generator=seeded(seed)).actions for seed in (0, 0, 1)]
    assert (plans[0] == plans[1]).all() and (plans[0] != plans[2]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0."),
        ({"action_dim": 0}, "action_dim must be at least 1, got 0."),
        ({"knots": 9}, "knots must be between 1 and horizon, got 9 and 4."),
        ({"interpolation": "cubic"}, "interpolation must be linear or constant, got cubic."),
        ({"answer": "worst"}, "answer must be mean or best, got worst."),
        ({"risk": 0.0}, 'risk must be "mean" or a share above 0 and at most 1, got 0.0.'),
        ({"risk": "worst"}, 'risk must be "mean" or a share above 0 and at most 1, got worst.'),
        ({"discount": 1.1}, "discount must be between 0 and 1, got 1.1."),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0."),
        ({"std": 0.0}, "std must be positive and finite, got 0.0."),
        ({"std": [1.0, 2.0]}, r"std must broadcast against \[4, 1\], got \[2\]."),
        ({"lower": [0.0, 1.0]}, r"lower must broadcast against \[1\], got \[2\]."),
        ({"lower": 1.0, "upper": 0.0}, "lower must be below upper, got 1.0 and 0.0."),
        ({"model": []}, "A planner must have at least one model, got 0."),
        ({"model": 3}, "A model must have the methods step and reward, got <class 'int'>."),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Planner(**{"model": Linear(), "solver": CEM, "horizon": 4, "action_dim": 1, **options})


def test_planners_keep_to_their_annotated_shapes():
    done = subprocess.run([sys.executable, "-W", "error", "-c", ANNOTATED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shapes_that_do_not_fit_are_refused():
    class Column(Linear):
        def reward(self, state, action):
            return super().reward(state, action).unsqueeze(-1)

    class Still(Linear):
        def reward(self, state, action):
            return -state.square().sum(-1)

    planner = Planner(Linear(), CEM, 4, 1)
    memory = planner(STATE).memory
    with pytest.raises(ValueError, match=r"reward of a model must return numbers of shape \[3, 60\]"):
        Planner(Column(), CEM, 4, 1)(STATE)
    with pytest.raises(ValueError, match=r"shape \[2, 60\], for the 2 rows of the state, .* got \[2"):
        Planner(Still(), CEM, 4, 1)(STATE[0])  # a state alone, without a batch of one
    with pytest.raises(ValueError, match="memory must be of a plan for the same 2 problems"):
        planner(STATE[:2], memory)
    with pytest.raises(ValueError, match="proposals must be"):
        Planner(Linear(), CEM, 4, 1, proposals=lambda state: state)(STATE)
    with pytest.raises(ValueError, match="same B"):
        planner((STATE, STATE[:2]))
    with pytest.raises(ValueError, match="must hold tensors, got NoneType"):
        planner(None)
