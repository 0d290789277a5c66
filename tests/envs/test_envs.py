"""Every environment keeps the same contract: sizes, seeds, action repeat, ends of episodes, states to go on from."""

import subprocess

import numpy as np
import pytest
import torch
from support.strict import STRICT_PYTHON
from torch import Tensor

from lit_dcem.envs.make import make
from lit_dcem.envs.simulation import MAX_RESETS, DivergenceError
from lit_dcem.envs.suite import suite  # dm_control's, imported without OpenGL
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError

BENCHMARK = [f"{domain}-{task}" for domain, task in suite.BENCHMARKING]
OTHERS = [f"{domain}-{task}" for domain, task in suite.EXTRA]
pytestmark = pytest.mark.filterwarnings("ignore:lqr.* has no time limit")
EVERY = [*BENCHMARK, "Pendulum-v1", "HalfCheetah-v5", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


def random_actions(envs: VectorEnv, num_steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((num_steps, envs.num_envs, envs.action_dim), generator=generator) * 2 - 1


def play(envs: VectorEnv, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Observations ``[T, E, O]`` and rewards ``[T, E]``; what ends is reset."""
    observations, rewards = [], []
    for action in actions:
        steps = envs.step(action)
        observations.append(steps.observations)
        rewards.append(steps.rewards)
        envs.reset(steps.ended)
    return torch.stack(observations), torch.stack(rewards)


class Counter:
    """Counts its steps; what the tests below need to happen happens at a given one."""

    observation_dim = 2
    lower, upper = np.array([0.0]), np.array([4.0])
    time_limit = None

    def __init__(self, **happens: int):
        self.happens = happens
        self.resets = 0

    def reset(self, seed):
        self.resets += 1
        if self.resets <= self.happens.get("broken_starts", 0):
            raise DivergenceError
        self.count = 0
        return np.zeros(2)

    def step(self, action):
        self.count += 1
        self.action = action.copy()
        at = {what for what, when in self.happens.items() if when == self.count}
        if "error" in at:
            raise DivergenceError
        observation = np.array([self.count, np.nan if "nan" in at else 1e39 if "overflow" in at else 0.0])
        return observation, np.inf if "reward" in at else 1.0, "terminated" in at, "truncated" in at


@pytest.mark.parametrize("name", EVERY)
def test_contract(name):
    once, thrice = make(name, num_envs=2, seed=3), make(name, action_repeat=3, seed=3)
    first = once.reset()
    assert first.shape == (2, once.observation_dim) and first.dtype == torch.float32
    assert torch.equal(first[:1], thrice.reset()), "the same seed, the same start"
    actions = 2 * random_actions(once, 4)  # beyond the bounds, too
    observations, rewards = play(once, actions.repeat_interleave(3, 0))
    repeated_observations, repeated_rewards = play(thrice, actions[:, :1].clamp(-1, 1))
    assert observations.isfinite().all() and not torch.equal(observations[:, 0], observations[:, 1])
    assert torch.equal(repeated_observations, observations[2::3, :1])
    torch.testing.assert_close(repeated_rewards, rewards[:, :1].unflatten(0, (4, 3)).sum(1))
    assert once.simulator_steps == 2 * thrice.simulator_steps == 24


@pytest.mark.parametrize("name", EVERY)
def test_a_state_goes_on_bit_for_bit_in_the_middle_of_an_episode(name, tmp_path):
    played, resumed = make(name, action_repeat=2), make(name, action_repeat=2, seed=1)
    played.reset()
    actions = random_actions(played, 67)
    play(played, actions[:4])
    played.reset()
    play(played, actions[:57])
    torch.save(played.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(resumed.observations, played.observations)
    assert resumed.simulator_steps == played.simulator_steps
    for mine, others in zip(play(resumed, actions[57:]), play(played, actions[57:]), strict=True):
        assert torch.equal(mine, others)
    assert torch.equal(resumed.reset(), played.reset()), "the episodes to come"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BENCHMARK, *OTHERS])
def test_a_state_goes_on_bit_for_bit_late_in_an_episode(name):
    played, resumed = make(name, seed=5), make(name)
    played.reset()
    actions = random_actions(played, 900)
    play(played, actions[:150])
    played.reset()
    play(played, actions[:800])
    resumed.load_state_dict(played.state_dict())
    for mine, others in zip(play(resumed, actions[800:]), play(played, actions[800:]), strict=True):
        assert torch.equal(mine, others)


def test_an_episode_depends_on_seed_rank_environment_and_number_alone():
    name = "cartpole-swingup"
    envs, alone = make(name, num_envs=3, seed=1, rank=2), make(name, seed=1, rank=2)
    envs.reset()
    alone.reset()
    play(envs, random_actions(envs, 7))
    assert torch.equal(envs.reset()[:1], alone.reset()), "neither the neighbours nor the length of an episode matter"
    starts = {tuple(make(name, seed=seed, rank=rank).reset()[0].tolist()) for seed in (0, 1) for rank in (0, 1)}
    assert len(starts) == 4


@pytest.mark.parametrize(
    ("name", "action_repeat", "limit"),
    [("cartpole-balance", 7, 1000), ("pendulum-swingup", 9, 1000), ("Pendulum-v1", 3, 200)],
)
def test_the_time_limit_truncates_and_cuts_the_action_repeat_short(name, action_repeat, limit):
    envs = make(name, action_repeat=action_repeat)
    envs.reset()
    for action in random_actions(envs, -(-limit // action_repeat)):
        steps = envs.step(action)
    assert steps.truncated.tolist() == steps.ended.tolist() == [True]
    assert not steps.terminated.any() and not steps.diverged.any()
    assert envs.simulator_steps == limit
    with pytest.raises(RuntimeError, match=r"must be reset before a step, got environments \[0\]"):
        envs.step(random_actions(envs, 1)[0])


def test_the_end_of_a_task_of_the_suite_terminates(monkeypatch):
    monkeypatch.setattr(suite.cartpole.Balance, "get_termination", lambda self, physics: 0.0)
    envs = make("cartpole-balance", action_repeat=4)
    envs.reset()
    steps = envs.step(random_actions(envs, 1)[0])
    assert steps.terminated.all() and not steps.truncated.any() and envs.simulator_steps == 1


def test_a_gymnasium_hopper_that_falls_terminates():
    envs = make("Hopper-v5", num_envs=2)
    envs.reset()
    ends = [envs.step(torch.ones(2, 3)) for _ in range(8)]
    assert not ends[-1].ended.any()
    for _ in range(300):
        steps = envs.step(torch.ones(2, 3))
        if steps.ended.any():
            break
    assert torch.equal(steps.terminated, steps.ended) and steps.ended.any()


def test_only_what_has_ended_is_reset():
    envs = VectorEnv([Counter(terminated=2), Counter(truncated=3)])
    envs.reset()
    seen = []
    for _ in range(4):
        steps = envs.step(torch.zeros(2, 1))
        seen.append(steps.observations[:, 0].tolist())
        now = envs.reset(steps.ended)
        assert torch.equal(now, steps.observations * ~steps.ended[:, None])
    assert seen == [[1, 1], [2, 2], [1, 3], [2, 1]], "after an end the last observation is that of the old episode"


def test_actions_are_clipped_and_scaled_to_the_bounds():
    counter = Counter()
    envs = VectorEnv([counter])
    envs.reset()
    for action, expected in ((-1.0, 0.0), (1.0, 4.0), (0.25, 2.5), (-7.0, 0.0), (7.0, 4.0)):
        envs.step(torch.tensor([[action]]))
        assert counter.action.tolist() == [expected]


@pytest.mark.parametrize("how", ["error", "nan", "overflow", "reward"])
def test_numbers_that_break_end_the_episode_and_go_no_further(how):
    envs, resumed = (VectorEnv([Counter(**{how: 3}), Counter()]) for _ in range(2))
    envs.reset()
    for _ in range(3):
        steps = envs.step(torch.zeros(2, 1))
    assert steps.diverged.tolist() == [True, False] and steps.rewards.tolist() == [0, 1]
    assert not steps.terminated.any() and not steps.truncated.any()
    assert steps.observations.tolist() == [[2, 0], [3, 0]], "the last good one, and the neighbour's"
    assert envs.num_diverged == 1
    resumed.load_state_dict(envs.state_dict())
    assert resumed.num_diverged == 1 and torch.equal(resumed.observations, envs.observations)
    assert envs.reset(steps.ended).tolist() == resumed.reset(steps.ended).tolist() == [[0, 0], [3, 0]]


def test_a_start_that_diverges_is_passed_over():
    envs = VectorEnv([Counter(broken_starts=2)])
    envs.reset()
    assert envs.num_diverged == 2 and envs.step(torch.zeros(1, 1)).rewards.tolist() == [1]
    with pytest.raises(UsageError, match=f"must have an initial state from .*, got {MAX_RESETS} in a row"):
        VectorEnv([Counter(broken_starts=MAX_RESETS)]).reset()


def test_an_environment_that_never_gets_anywhere_is_told():
    envs, later = VectorEnv([Counter(nan=1)]), VectorEnv([Counter(nan=2)])
    envs.reset()
    for _ in range(MAX_RESETS - 1):
        envs.reset(envs.step(torch.zeros(1, 1)).ended)
    ended = envs.step(torch.zeros(1, 1)).ended
    with pytest.raises(UsageError, match=f"from which it can be stepped, got {MAX_RESETS} in a row that diverged"):
        envs.reset(ended)
    later.reset()
    for _ in range(4 * MAX_RESETS):  # short, but something
        later.reset(later.step(torch.zeros(1, 1)).ended)


@pytest.mark.parametrize("name", ["cheetah-run", "HalfCheetah-v5"])
def test_physics_that_diverge_end_the_episode(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log
    envs = make(name, num_envs=2, action_repeat=2)
    start = envs.reset()
    environment = envs._members[1].simulation._environment
    data = environment.unwrapped.data if name == "HalfCheetah-v5" else environment.physics.data
    data.qvel[:] = 1e20
    steps = envs.step(random_actions(envs, 1)[0])
    assert steps.diverged.tolist() == [False, True]
    assert torch.equal(steps.observations[1], start[1]) and steps.rewards[1] == 0 and envs.num_diverged == 1
    envs.reset(steps.ended)
    assert not any(envs.step(action).ended.any() for action in random_actions(envs, 20))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cheetah-rum", r"must be a task of dm_control or Gymnasium, got cheetah-rum \(closest: cheetah-run"),
        ("Ball_In_Cup_Catch", r"\(closest: ball_in_cup-catch"),
        ("Pendulum", r"\(closest: Pendulum-v1"),
        ("Pendulum-v7", r"got Pendulum-v7 \(closest: Pendulum-v1"),
        ("§", r"got §\.$"),
        ("no_such_package:Thing-v0", "one that Gymnasium can make, got no_such_package:Thing-v0: No module named"),
        (":", r"must be a task of dm_control or Gymnasium, got :\.$"),
        ("a:b:c", r"must be a task of dm_control or Gymnasium, got a:b:c\.$"),
    ],
)
def test_a_name_that_does_not_fit_is_a_sentence(name, message):
    with pytest.raises(UsageError, match=message):
        make(name)


def test_arguments_that_do_not_fit_are_refused():
    for sizes in ({"num_envs": 0}, {"action_repeat": 0}):
        with pytest.raises(ValueError, match="num_envs and action_repeat must be at least 1, got"):
            make("Pendulum-v1", **sizes)
    with pytest.raises(ValueError, match="time_limit must be at least 1, got 0"):
        make("Pendulum-v1", time_limit=0)
    envs = VectorEnv([Counter(), Counter()])
    envs.reset()
    with pytest.raises(ValueError, match=r"actions must be \[2, 1\], got \[2, 3\]"):
        envs.step(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="actions must be finite"):
        envs.step(torch.tensor([[0.0], [torch.nan]]))
    for others in (VectorEnv([Counter()]), VectorEnv([Counter(), Counter()], time_limit=5)):
        with pytest.raises(ValueError, match=r"must be loaded into environments of the same sizes, got .'num_envs': "):
            envs.load_state_dict(others.state_dict())


def test_a_state_of_other_bounds_is_refused():
    envs = make("Pendulum-v1")
    envs.reset()
    state = envs.state_dict()
    state["bounds"] = [[-1.0], [1.0]]
    with pytest.raises(ValueError, match=r"must have the action bounds .*, got \[\[-2.0\], \[2.0\]\] for"):
        envs.load_state_dict(state)


def test_a_replay_that_goes_another_way_is_told():
    envs = VectorEnv([Counter()])
    envs.reset()
    envs.step(torch.zeros(1, 1))
    state = envs.state_dict()
    state["members"][0]["observation"] += 1
    with pytest.warns(UserWarning, match="does not resume bit for bit"):
        envs.load_state_dict(state)
    early = VectorEnv([Counter(terminated=1)])
    state["members"][0]["actions"] = torch.zeros(3, 1)
    with pytest.warns(UserWarning, match="does not resume bit for bit"):
        early.load_state_dict(state)
    assert early.ended.all() and early.reset(early.ended).tolist() == [[0, 0]]


USE_EACH_METHOD = """
from jaxtyping import install_import_hook

install_import_hook("lit_dcem.envs", "beartype.beartype")

import torch
from lit_dcem.envs.make import make
from lit_dcem.envs.vector import Steps

for name in ("cartpole-swingup", "Pendulum-v1"):
    envs = make(name, num_envs=3, action_repeat=2)
    envs.reset()
    envs.reset(envs.step(torch.zeros(3, 1)).ended)
    envs.load_state_dict(envs.state_dict())
try:
    Steps(torch.zeros(3, 2), torch.zeros(2), *torch.zeros(3, 3).bool())
except Exception as error:
    assert "rewards" in str(error), error
else:
    raise SystemExit("nothing checks the shapes")
"""


def test_environments_keep_to_their_annotated_shapes():
    command = [*STRICT_PYTHON, "-c", USE_EACH_METHOD]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["cheetah-run", "HalfCheetah-v5"])
def test_a_picture_changes_nothing(name, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    drawn, plain = make(name, num_envs=2), make(name, num_envs=2)
    drawn.reset()
    plain.reset()
    try:
        picture = drawn.render(height=60, width=90)
    except UsageError as error:
        if "need OpenGL" not in str(error):
            raise
        pytest.skip(str(error))
    actions = random_actions(drawn, 20)
    assert torch.equal(play(drawn, actions)[0], play(plain, actions)[0])
    assert drawn.render(height=500, width=700).shape == (500, 700, 3)
    later, other = drawn.render(height=60, width=90), drawn.render(1, height=60, width=90)
    assert picture.shape == later.shape == (60, 90, 3) and picture.dtype == np.uint8
    assert picture.std() > 10 and (picture != later).any() and (later != other).any()
