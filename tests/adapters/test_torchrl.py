"""A planner of TorchRL, in the package's own environments and world models."""

import sys

import pytest
import torch
from torch import nn

from lit_dcem import DCEM, UnrolledGD, cma, icem
from lit_dcem.solvers.distributions import Gaussian

CEM = DCEM(num_candidates=60, num_elites=6, num_iterations=4, temperature=0.0)


def test_a_missing_package_is_named(monkeypatch):
    for name in ("torchrl", "tensordict"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "lit_dcem.adapters.torchrl", raising=False)
    with pytest.raises(ImportError, match=r"needs TorchRL: pip install torchrl\."):
        __import__("lit_dcem.adapters.torchrl")


slow = pytest.mark.slow
ignored = pytest.mark.filterwarnings("ignore")  # of TorchRL, about its own next release


@pytest.fixture
def parts():
    """What a test needs of TorchRL, which takes seconds to import."""
    pytest.importorskip("torchrl")
    from tensordict import TensorDict
    from torchrl.envs import PendulumEnv

    from lit_dcem.adapters.torchrl import TorchRLPlanner

    return TensorDict, PendulumEnv(), TorchRLPlanner


def pendulums(env, count):
    torch.manual_seed(1)
    return env.reset(env.gen_params(batch_size=[count]))


@slow
@ignored
def test_writes_actions_within_the_spec_and_nothing_else(parts):
    _, env, planner_class = parts
    for shape in ([], [3], [2, 2]):
        state = env.reset(env.gen_params(batch_size=shape))
        before = state.clone()
        after = planner_class(env, CEM, horizon=5)(state)
        assert after["action"].shape == (*shape, 1) and env.action_spec_unbatched.is_in(after["action"])
        assert (after.exclude("action") == before).all()


@slow
@ignored
@pytest.mark.parametrize("elites", [3, 10])
def test_cem_acts_as_theirs_does_from_the_same_seed(parts, elites):
    from torchrl.modules import CEMPlanner

    _, env, planner_class = parts
    state = pendulums(env, 5)
    ours = DCEM(num_candidates=30, num_elites=elites, num_iterations=4, temperature=0.0)
    planners = planner_class(env, ours, horizon=6, std=1.0), CEMPlanner(env, 6, 4, 30, elites)
    actions = []
    for planner in planners:
        torch.manual_seed(2)
        actions.append(planner(state.clone())["action"])
    torch.testing.assert_close(*actions)


@slow
@ignored
def test_solvers_that_fit_a_gaussian_get_an_unbiased_std(parts):
    from lit_dcem.adapters.torchrl import with_unbiased_std

    assert with_unbiased_std(CEM).options["unbiased"]
    assert with_unbiased_std(icem(momentum=0.2)).options["distribution"] == Gaussian(momentum=0.2, unbiased=True)
    for other in (cma(3), UnrolledGD()):
        assert with_unbiased_std(other) is other


@slow
@ignored
def test_the_value_of_a_plan_is_the_return_of_its_rollout(parts):
    _, env, planner_class = parts
    state = pendulums(env, 4)
    plan = planner_class(env, CEM, horizon=6).plan(state)
    actions = iter(plan.actions.unbind(1))

    def policy(tensordict):
        return tensordict.set("action", next(actions))

    rollout = env.rollout(6, policy, auto_reset=False, tensordict=state.clone())
    torch.testing.assert_close(rollout["next", "reward"].sum((1, 2)), plan.value)


@slow
@ignored
def test_gradients_reach_the_parameters_of_the_environment(parts):
    _, env, planner_class = parts
    state = pendulums(env, 2).apply(lambda each: each.double() if each.is_floating_point() else each)

    def action(length):
        solver = DCEM(num_candidates=20, num_elites=5, num_iterations=3, generator=torch.Generator().manual_seed(1))
        state["params", "l"] = length
        return planner_class(env, solver, horizon=5)(state.clone())["action"]

    length = torch.tensor([0.9, 1.1], requires_grad=True)
    action(length).sum().backward()
    slopes = [
        (action(length.detach() + step).sum() - action(length.detach() - step).sum()) / 2e-2
        for step in torch.eye(2) * 1e-2
    ]
    torch.testing.assert_close(length.grad, torch.stack(slopes), rtol=0.1, atol=1e-3)
    assert (length.grad != 0).all()


@slow
@ignored
def test_stands_up_pendulums_as_a_policy(parts):
    _, env, planner_class = parts
    state = pendulums(env, 8)
    planner = planner_class(env, DCEM(num_candidates=60, num_elites=6, num_iterations=4, temperature=0.0), horizon=15)
    with torch.no_grad():
        end = env.rollout(60, planner, auto_reset=False, tensordict=state)["next", "th"][:, -1]
    assert (end.cos() > 0.9).sum() >= 6


def counting(parts, **options):
    """A world model whose episodes end when the sum of the actions exceeds 1, and whose reward is the action."""
    tensordict_class, _, planner_class = parts
    from torchrl.data import Bounded, Composite, Unbounded
    from torchrl.envs.model_based import ModelBasedEnvBase

    class Sums(nn.Module):
        def forward(self, tensordict):
            total = tensordict["total"] + tensordict["action"]
            done = total > 1
            more = {"total": total, "reward": tensordict["action"], "done": done, "terminated": done}
            return tensordict.update(more)

    class Counting(ModelBasedEnvBase):
        def __init__(self):
            super().__init__(Sums())
            self.observation_spec = Composite(total=Unbounded((1,)))
            self.state_spec = Composite(total=Unbounded((1,)))
            self.action_spec = Bounded(-1.0, 1.0, (1,))
            self.reward_spec = Unbounded((1,))

        def _reset(self, tensordict, **_):
            return tensordict_class({"total": torch.zeros(1)}, [])

    state = tensordict_class({"total": torch.zeros(2, 1)}, [2])
    return planner_class(Counting(), CEM, 3, **options), state


@slow
@ignored
def test_rewards_after_the_end_of_an_episode_do_not_count(parts):
    planner, state = counting(parts)
    rewards, (last, over) = planner.imagination.rollout(
        planner_state(planner, state), torch.tensor([[[0.9], [0.5], [0.7]], [[0.2], [0.2], [0.2]]]).unsqueeze(1)
    )
    torch.testing.assert_close(rewards.squeeze(1), torch.tensor([[0.9, 0.5, 0.0], [0.2, 0.2, 0.2]]))
    assert over.tolist() == [[True], [False]] and last["total"].shape == (2, 1, 1)


def planner_state(planner, state):
    from lit_dcem.adapters.torchrl import Situation

    return Situation(torch.zeros(len(state), 0), state)


@slow
@ignored
def test_a_value_counts_after_the_horizon_where_an_episode_goes_on(parts):
    from tensordict.nn import TensorDictModule

    value = TensorDictModule(lambda total: total * 0 + 5, ["total"], ["state_value"])
    planner, state = counting(parts, value=value, discount=0.5, answer="best")
    actions = torch.tensor([[[0.9], [0.5], [0.7]], [[0.2], [0.2], [0.2]]]).unsqueeze(1)
    returns = planner.planner.returns(planner_state(planner, state), actions)
    torch.testing.assert_close(returns.squeeze(1), torch.tensor([0.9 + 0.25, 0.2 * 1.75 + 5 / 8]))


@slow
@ignored
def test_warm_starts_from_a_memory(parts):
    _, env, planner_class = parts
    state = pendulums(env, 2)
    planner = planner_class(env, UnrolledGD(num_steps=1, lr=1e-9), horizon=4)
    first = planner.plan(state)
    memory = first.memory._replace(plan=first.actions, mean=torch.full((2, 4), 0.5), best=torch.full((2, 4), 0.5))
    torch.testing.assert_close(planner.plan(state, memory).actions, torch.full((2, 4, 1), 0.5))


@slow
@ignored
def test_other_actions_are_refused(parts):
    _, _, planner_class = parts
    from torchrl.testing.mocking_classes import StateLessCountingEnv

    with pytest.raises(ValueError, match="The action of an environment must be one continuous tensor, got Unbounded"):
        planner_class(StateLessCountingEnv(), CEM, 3)
