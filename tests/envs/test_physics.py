"""The true physics as a model to plan with: what rollouts and steps give is what dm_control's environment gives."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lit_dcem import DCEM, Physics, Planner
from lit_dcem.envs import suite, task_rewards
from lit_dcem.errors import UsageError

KNOWN = sorted(task_rewards.REWARDS)
OTHERS = ["acrobot-swingup", "finger-turn_hard", "hopper-hop", "humanoid-run", "lqr-lqr_2_1", "reacher-hard"]
STEPS = 25


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(physics, *sizes):
    lower, upper = torch.tensor(physics.lower).double(), torch.tensor(physics.upper).double()
    return lower + (upper - lower) * torch.rand(*sizes, len(lower), generator=seeded(), dtype=torch.float64)


def really_stepped(name, repeat, actions, seed=0):
    """Rewards ``[H]`` of an environment of its own, summed over repeats."""
    simulation = suite.SuiteSimulation(name)
    simulation.reset(np.random.SeedSequence(seed))
    return [sum(simulation.step(action.numpy())[1] for _ in range(repeat)) for action in actions]


@pytest.mark.parametrize("name", [*KNOWN, *OTHERS])
def test_rollouts_have_the_rewards_of_the_environment(name):
    physics = Physics(name, num_threads=1)
    state, actions = physics.reset(3), drawn(physics, 1, 2, STEPS)
    rewards, last = physics.rollout(state, actions)
    assert last.shape == (1, 2, state.shape[1])
    for i in range(2):
        expected = really_stepped(name, physics.action_repeat, actions[0, i], seed=3)
        assert_close(rewards[0, i], torch.tensor(expected).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cheetah-run", "walker-walk", "cartpole-swingup", "hopper-hop"])
def test_steps_have_the_rewards_of_the_environment(name):
    """A model in closed loop is the environment, to rounding, and does not drift."""
    physics = Physics(name, num_threads=1)
    state, actions, rewards = physics.reset(), drawn(physics, STEPS), []
    for action in actions.unsqueeze(1):
        rewards.append(physics.reward(state, action).item())
        state = physics.step(state, action)
    assert rewards == pytest.approx(really_stepped(name, physics.action_repeat, actions), abs=1e-6)


@pytest.mark.parametrize("name", KNOWN)
def test_rewards_of_many_states_are_those_of_the_task(name):
    """Also far from where random actions lead."""
    physics = Physics(name, num_threads=1)
    state = physics.reset().repeat(40, 1)
    size = physics._simulation._environment.physics.model.nv
    state[:, 1 : 1 + 2 * size] += 3 * torch.randn(40, 2 * size, generator=seeded(), dtype=torch.float64)
    actions = drawn(physics, 40, 1, 3)
    rewards, _ = physics.rollout(state, actions)
    physics._rollouts._reward = None
    assert_close(rewards, physics.rollout(state, actions)[0], rtol=0, atol=1e-9)


def test_several_threads_compute_the_same():
    one, more = Physics("cheetah-run", num_threads=1), Physics("cheetah-run", num_threads=3)
    state, actions = one.reset(), drawn(one, 1, 7, 5)
    for ours, theirs in zip(one.rollout(state, actions), more.rollout(state, actions), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_rows_of_a_batch_start_from_their_own_states():
    physics = Physics("walker-walk", num_threads=1)
    states = torch.cat([physics.reset(seed) for seed in (1, 2)])
    actions = drawn(physics, 2, 3, 4)
    rewards, last = physics.rollout(states, actions)
    for i in range(2):
        own, own_last = physics.rollout(states[i : i + 1], actions[i : i + 1])
        assert_close(rewards[i], own[0])
        assert_close(last[i], own_last[0])
    assert_close(physics.reward(states, actions[:, 0, 0]), rewards[:, 0, 0])
    after = physics.step(states.unsqueeze(1).expand(2, 3, -1), actions[:, :, 0])
    assert after.shape == (2, 3, states.shape[1])
    assert_close(after[0, 1:2], physics.step(states[:1], actions[0, 1:2, 0]))


def test_the_repeats_count_once_each():
    state = Physics("cheetah-run").reset()
    one, two = (Physics("cheetah-run", action_repeat=repeat, num_threads=1) for repeat in (1, 2))
    action = drawn(two, 1)
    middle = one.step(state, action)
    assert_close(two.reward(state, action), one.reward(state, action) + one.reward(middle, action))
    assert_close(two.step(state, action), one.step(middle, action))


@pytest.mark.parametrize("broken", [1e12, torch.nan])
def test_a_simulation_that_breaks_down_is_no_candidate(broken, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log
    physics = Physics("cheetah-run", num_threads=1)
    states = physics.reset().repeat(2, 1)
    states[1, 12] = broken  # a velocity
    rewards, _ = physics.rollout(states, drawn(physics, 2, 2, 3))
    assert rewards.isnan().flatten(1).all(1).tolist() == [False, True]
    after = physics.step(states, drawn(physics, 2))
    assert after.isnan().all(1).tolist() == [False, True] and after[0].isfinite().all()
    assert physics.reward(after, drawn(physics, 2)).isnan().tolist() == [False, True]


def test_sizes_that_do_not_fit_are_refused():
    physics = Physics("cheetah-run", num_threads=1)
    with pytest.raises(ValueError, match=r"An action must have 6 numbers, got \[1, 5\]"):
        physics.step(physics.reset(), torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"A state must have 28 numbers, got \[1, 3\]"):
        physics.reward(torch.zeros(1, 3), torch.zeros(1, 6))


def test_plans_keep_what_they_promise():
    physics = Physics("cheetah-run", num_threads=1)
    solver = DCEM(num_candidates=24, num_elites=6, num_iterations=3, temperature=0.0)
    planner = Planner(physics, solver, 6, 6, lower=physics.lower, upper=physics.upper, answer="best")
    plan = planner(physics.reset(), generator=seeded())
    assert plan.value.item() == pytest.approx(sum(really_stepped("cheetah-run", 4, plan.actions[0])))
    assert plan.value > planner.returns(physics.reset(), torch.zeros(1, 1, 6, 6)) + 1


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("Pendulum-v1", {}, UsageError, "must be those of a task of the dm_control suite, got Pendulum-v1"),
        ("cheetah-run", {"action_repeat": 0}, ValueError, "action_repeat must be at least 1, got 0"),
        ("cheetah-run", {"num_threads": 0}, ValueError, "num_threads must be at least 1, got 0"),
        ("cheetah-run", {"options": {"colour": 1}}, UsageError, "env_options must be arguments"),
    ],
)
def test_what_is_not_possible_is_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        Physics(name, **options)
