"""A checkpoint as a controller of an environment that the caller steps himself."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from pytorch_lightning.cli import instantiate_module

from lit_dcem import PlanetPhase1, load_controller
from lit_dcem.envs.suite import suite  # that of dm_control, imported without OpenGL
from lit_dcem.errors import UsageError
from lit_dcem.planet.controller import Controller, _read
from lit_dcem.planet.data.evaluation_episodes import evaluate_episodes

SEARCH = {"num_candidates": 20, "num_elites": 5, "num_iterations": 2, "temperature": 0.0, "lower": -1.0, "upper": 1.0}
SIZES = {"hidden_dim": 8, "num_layers": 1, "rssm": {"deter_dim": 8, "stoch_dim": 3}}
HORIZON, REPEAT, STEPS = 4, 5, 10
OBSERVATIONS, ACTIONS = Box(-1, 1, (2, 3)), Box(np.array([[-3, 0], [2, 5]]), np.array([[4, 9], [3, 6]]), dtype=np.int16)


class Grid(gymnasium.Env):
    """Observations and actions that are no vectors."""

    observation_space, action_space = OBSERVATIONS, ACTIONS

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self._look(), float(action.sum()), False, False, {}

    def _look(self):
        return self.np_random.uniform(-1, 1, (2, 3)).astype(np.float32)


@pytest.fixture
def grid():
    gymnasium.register("Grid-v0", Grid, max_episode_steps=STEPS * REPEAT)
    yield "Grid-v0"
    gymnasium.registry.pop("Grid-v0")


@pytest.fixture
def checkpoint(tmp_path):
    """``checkpoint(env, observation_dim, action_dim)``: a file of an untrained module."""

    def written(env, observation_dim, action_dim):
        solver = {"class_path": "lit_dcem.DCEM", "init_args": SEARCH}
        planner = {"solver": solver, "horizon": HORIZON, "warm_start": True}
        model = {"observation_dim": observation_dim, "action_dim": action_dim, **SIZES}
        config = {
            "_class_path": "lit_dcem.PlanetPhase1",
            "world_model": {"class_path": "lit_dcem.WorldModel", "init_args": model},
            "planner": {"class_path": "lit_dcem.CEMPlanner", "init_args": planner},
        }
        data = {"_class_path": "lit_dcem.Rollouts", "env": env, "action_repeat": REPEAT}
        torch.manual_seed(0)
        weights = instantiate_module(PlanetPhase1, config).state_dict()
        content = {"state_dict": weights, "global_step": 1, "epoch": 0, "pytorch-lightning_version": "2.6"}
        path = tmp_path / "small.ckpt"
        torch.save({**content, "hyper_parameters": config, "datamodule_hyper_parameters": data}, path)
        return path

    return written


def seeds(seed):
    """Of the first episode of our environments of this seed."""
    return np.random.SeedSequence((seed, 0, 0, 1))


def start(env, seed):
    """First observation of an environment as its own package makes it, and ``step(action)`` as the caller writes it."""
    if env == "cartpole-swingup":
        task = suite.load("cartpole", "swingup")
        task.task.random.seed(seeds(seed).generate_state(8))

        def stepped(action):
            after = task.step(action)
            return after.observation, after.reward, after.last()

        return task.reset().observation, stepped
    made = gymnasium.make(env)

    def step(action):
        observation, reward, terminated, truncated, _ = made.step(action)
        return observation, reward, terminated or truncated

    return made.reset(seed=int(seeds(seed).generate_state(1)[0]))[0], step


def controlled(controller, env, seed, disturbed=False):
    """Actions and rewards of STEPS decisions, or of an episode that ends before."""
    observation, step = start(env, seed)
    actions, rewards, done = [], [], False
    while not done and len(actions) < STEPS:
        if disturbed:
            torch.manual_seed(len(actions))
            torch.rand(3)
        actions.append(controller.act(observation))
        rewards.append(0.0)
        for _ in range(controller.action_repeat):
            observation, reward, done = step(actions[-1])
            rewards[-1] += float(reward)
            if done:
                break
    return np.stack(actions), np.array(rewards)


def evaluated(path, seed):
    module, data = _read(path, ())
    data.time_limit = STEPS * data.action_repeat
    envs = data.make_envs(1, seed)
    return evaluate_episodes(module.policy.with_seed(seed), envs, 1)


@pytest.mark.parametrize("name", ["swingup_phase1_1", "swingup_phase2_1"])
def test_it_does_what_our_evaluation_does_in_dm_control(name):
    seed = 5
    episode = evaluated(name, seed)
    actions, rewards = controlled(load_controller(name, seed=seed), "cartpole-swingup", seed)
    np.testing.assert_array_equal(actions.astype(np.float32), episode.actions.numpy())
    np.testing.assert_array_equal(rewards.astype(np.float32), episode.rewards.numpy())


def test_it_does_what_our_evaluation_does_in_gymnasium(checkpoint):
    path, seed = checkpoint("Pendulum-v1", 3, 1), 6
    episode = evaluated(path, seed)
    actions, rewards = controlled(load_controller(path, seed=seed), "Pendulum-v1", seed)
    assert actions.dtype == np.float32 and actions.shape == (STEPS, 1) and np.abs(actions).max() <= 2
    np.testing.assert_array_equal(actions, 2 * episode.actions.numpy())
    np.testing.assert_array_equal(rewards.astype(np.float32), episode.rewards.numpy())


def test_a_whole_episode_of_integers_in_a_matrix(checkpoint, grid):
    """`Grid` itself checks the actions."""
    controller = load_controller(checkpoint(grid, 6, 4), trust=[__name__.partition(".")[0]])
    actions, rewards = controlled(controller, grid, 0)
    assert actions.shape == (STEPS, 2, 2) and actions.dtype == np.int16 and len(rewards) == STEPS
    plan = controller.plan
    assert plan.actions.shape == (HORIZON, 2, 2) and all(ACTIONS.contains(action) for action in plan.actions)
    assert len(np.unique(actions.reshape(STEPS, -1), axis=0)) > 1


def test_the_plan_begins_with_the_action_and_what_it_is_worth(checkpoint):
    controller = load_controller(checkpoint("Pendulum-v1", 3, 1))
    with pytest.raises(RuntimeError, match="must be asked for after act"):
        _ = controller.plan
    action = controller.act(np.array([1.0, 0.0, 0.5], np.float32))
    plan = controller.plan
    assert plan.actions.shape == (HORIZON, 1) and plan.rewards.shape == (HORIZON,)
    np.testing.assert_array_equal(plan.actions[0], action)
    assert np.isfinite(plan.rewards).all() and plan.rewards.dtype == np.float32
    np.testing.assert_array_equal(controller.plan.rewards, plan.rewards)
    controller.reset()
    with pytest.raises(RuntimeError):
        _ = controller.plan


def test_expected_rewards_are_what_comes():
    """Of a controller that has learned: over ten decisions, the reward of the next step is known to about a tenth."""
    controller = load_controller("swingup_phase2_1")
    observation, step = start("cartpole-swingup", 3)
    errors = []
    for _ in range(STEPS):
        action, got = controller.act(observation), 0.0
        expected = controller.plan.rewards[0]
        for _ in range(controller.action_repeat):
            observation, reward, _ = step(action)
            got += reward
        errors.append(abs(expected - got) / controller.action_repeat)
    assert max(errors) < 0.1


def test_actions_are_of_the_seed_alone(checkpoint):
    path = checkpoint("Pendulum-v1", 3, 1)
    controller = load_controller(path, seed=4)
    actions, _ = controlled(controller, "Pendulum-v1", 0)
    copy, before = load_controller(path, seed=4), torch.get_rng_state()
    again, _ = controlled(copy, "Pendulum-v1", 0)
    assert torch.equal(torch.get_rng_state(), before)
    disturbed, _ = controlled(load_controller(path, seed=4), "Pendulum-v1", 0, disturbed=True)
    controller.reset()
    other, _ = controlled(controller, "Pendulum-v1", 0)
    controller.reset(seed=4)
    anew, _ = controlled(controller, "Pendulum-v1", 0)
    for same in (again, disturbed, anew):
        np.testing.assert_array_equal(same, actions)
    assert not np.array_equal(other, actions)


def test_a_plan_that_is_worth_nothing_finite_is_refused_and_the_controller_stays_as_it_was(checkpoint):
    path = checkpoint("Pendulum-v1", 3, 1)
    controller = load_controller(path)
    observation, planner = np.array([1.0, 0.0, 0.0]), controller._policy.planner
    controller.act(observation)
    before = controller.plan.actions
    planner.set_options(known_reward=lambda observations, actions: actions.sum(-1) * np.nan)
    with pytest.raises(UsageError, match="a candidate with a finite predicted return, got none"):
        controller.act(observation)
    np.testing.assert_array_equal(controller.plan.actions, before)
    planner.set_options(known_reward=None)
    controller.act(observation)


@pytest.mark.parametrize(
    ("env", "sizes", "observation", "rule"),
    [
        ("Pendulum-v1", (3, 1), np.zeros(4), "The observation of Pendulum-v1 must have the size of its observation_sp"),
        ("Pendulum-v1", (3, 1), (np.zeros(3), {}), "The observation of Pendulum-v1 must be numeric, got "),
        ("Pendulum-v1", (3, 1), {"position": np.zeros(3)}, "The observation of Pendulum-v1 must be numeric, got "),
        ("Pendulum-v1", (3, 1), [0, np.nan, 0], r"An observation must be of finite numbers, got \[0.0, nan, 0.0\] of"),
        ("cartpole-swingup", (5, 1), np.zeros(5), "must be that of a TimeStep, with position, velocity, got ndarray"),
        ("cartpole-swingup", (5, 1), {"position": np.zeros(3)}, "with position, velocity, got position"),
        (
            "cartpole-swingup",
            (5, 1),
            {"velocity": np.zeros(3), "position": np.zeros(3)},
            "The velocity in the observation of cartpole-swingup must have the size, 2, got 3",
        ),
    ],
)
def test_other_observations_are_refused_in_a_sentence(checkpoint, env, sizes, observation, rule):
    path = checkpoint(env, *sizes)
    controller, other = load_controller(path), load_controller(path)
    with pytest.raises(UsageError, match=rule):
        controller.act(observation)
    good, _ = start(env, 0)
    np.testing.assert_array_equal(controller.act(good), other.act(good))


def test_parts_of_an_observation_come_in_any_order(checkpoint):
    path = checkpoint("cartpole-swingup", 5, 1)
    good, _ = start("cartpole-swingup", 0)
    turned = dict(reversed(good.items()))
    np.testing.assert_array_equal(load_controller(path).act(turned), load_controller(path).act(good))


@pytest.mark.parametrize("name", ["regression_dcem_0", "cartpole_best_0"])
def test_other_checkpoints_are_refused_in_a_sentence(name):
    kinds = "EnergyRegression|CartpoleEmbedding"
    with pytest.raises(UsageError, match=f"A controller needs a checkpoint of Planet.* got ({kinds}) in .*{name}"):
        load_controller(name)
    with pytest.raises(UsageError, match="nowhere"):
        load_controller("nowhere")


def test_an_environment_that_has_changed_is_refused(checkpoint):
    with pytest.raises(UsageError, match=r"Pendulum-v1, must have the sizes .* 4 numbers .* 2 an action, got 3 and 1"):
        load_controller(checkpoint("Pendulum-v1", 4, 2))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_are_those_of_torch(checkpoint, seed):
    with pytest.raises(ValueError, match="seed must be at least 0"):
        load_controller(checkpoint("Pendulum-v1", 3, 1), seed=seed)


def test_a_seed_is_a_whole_number_of_any_type(checkpoint):
    path = checkpoint("Pendulum-v1", 3, 1)
    with pytest.raises(ValueError, match=r"seed must be a whole number, got 1\.5\."):
        load_controller(path).reset(1.5)
    ours, theirs = (load_controller(path, seed=seed) for seed in (np.int64(3), 3))
    good, _ = start("Pendulum-v1", 0)
    np.testing.assert_array_equal(ours.act(good), theirs.act(good))


def test_a_plan_that_fails_leaves_the_controller_as_it_was(checkpoint, monkeypatch):
    path = checkpoint("Pendulum-v1", 3, 1)
    ours, theirs = load_controller(path, seed=5), load_controller(path, seed=5)
    good, _ = start("Pendulum-v1", 0)
    for controller in (ours, theirs):
        controller.act(good)
    policy = ours._policy

    def fails(*inputs):
        actions, state = policy(*inputs)
        return torch.full_like(actions, math.nan), state

    with monkeypatch.context() as patch:
        patch.setattr(ours, "_policy", fails)
        with pytest.raises(UsageError, match="A plan needs a candidate with a finite predicted return"):
            ours.act(good)
    np.testing.assert_array_equal(ours.act(good), theirs.act(good))


def test_it_says_what_it_is_for(checkpoint):
    controller = load_controller(checkpoint("Pendulum-v1", 3, 1))
    assert isinstance(controller, Controller)
    assert (controller.env, controller.action_repeat) == ("Pendulum-v1", REPEAT)
