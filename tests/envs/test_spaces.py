"""Spaces of Gymnasium: how actions reach them, and what is refused, with the wrapper that helps."""

from collections import Counter

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.spaces import Box

from lit_dcem.envs.make import make
from lit_dcem.errors import UsageError

STATES, ACTIONS = Box(-1, 1, (3,)), Box(-1, 1, (2,))


class Own(gymnasium.Env):
    """An environment of the spaces that it is told; it keeps what was done."""

    def __init__(self, observations=STATES, actions=ACTIONS):
        self.observation_space, self.action_space = observations, actions
        self.done = []

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        self.done.append(action)
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture
def own():
    """Make our own environment, wrapped."""

    def made(observations=STATES, actions=ACTIONS, wrap=lambda env: env, kind=Own):
        gymnasium.registry.pop("Own-v0", None)
        gymnasium.register("Own-v0", lambda: wrap(kind(observations, actions)))
        return make("Own-v0", time_limit=100_000)

    yield made
    gymnasium.registry.pop("Own-v0", None)


def done_in(envs):
    return envs._members[0].simulation._environment.unwrapped.done


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 3, (1,), np.int64),
        Box(-2, 2, (1,), np.int32),
        Box(0, 255, (1,), np.uint8),
        Box(7, 7, (1,), np.int64),
        Box(0, 1, (1,), np.bool_),
    ],
    ids=str,
)
def test_uniform_actions_reach_every_integer_as_often(own, space):
    envs = own(actions=space)
    low, high = int(space.low[0]), int(space.high[0])
    each = 30
    envs.reset()
    count = each * (high - low + 1)
    for action in (torch.arange(count) + 0.5) / count * 2 - 1:
        envs.step(action.view(1, 1))
    done = done_in(envs)
    assert all(space.contains(action) and action.dtype == space.dtype for action in done)
    counts = Counter(int(action[0]) for action in done)
    assert set(counts) == set(range(low, high + 1)) and all(abs(n - each) <= 1 for n in counts.values())


@pytest.mark.parametrize("space", [Box(-(2**63), 2**63 - 2, (2, 2), np.int64), Box(-3, 5, (2, 2), np.int16)], ids=str)
def test_the_ends_of_integers_are_reached_and_not_passed(own, space):
    envs = own(actions=space)
    envs.reset()
    ends = (-1.0, -7.0, 1.0, 7.0, 0.0)
    for action in ends:
        envs.step(torch.full((1, 4), action))
    low, _, high, _, middle = done_in(envs)
    assert (low == space.low).all() and (high == space.high).all() and all(map(space.contains, done_in(envs)))
    assert abs(int(middle[0, 0]) - (int(space.low[0, 0]) + int(space.high[0, 0])) // 2) <= 1


def test_floats_reach_their_bounds_in_their_shape_and_type(own):
    space = Box(np.array([[0.0], [-4.0]]), np.array([[1.0], [2.0]]), dtype=np.float64)
    envs = own(actions=space)
    envs.reset()
    for action in (-1.0, 0.0, 1.0):
        envs.step(torch.full((1, 2), action))
    assert [action.tolist() for action in done_in(envs)] == [[[0], [-4]], [[0.5], [-1]], [[1], [2]]]
    assert all(map(space.contains, done_in(envs)))


BOX_OF_STATES = {"place": Box(-1, 1, (2,)), "kind": spaces.Discrete(3)}
REFUSED_OBSERVATIONS = {
    "dict": spaces.Dict(BOX_OF_STATES),
    "tuple": spaces.Tuple([*BOX_OF_STATES.values()]),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(3),
}


@pytest.mark.parametrize("space", REFUSED_OBSERVATIONS.values(), ids=REFUSED_OBSERVATIONS)
def test_observations_that_are_no_box_name_the_wrapper_that_makes_one(own, space):
    rule = r"^The observations of an environment must be a Box, got .* in Own-v0; wrap it in gymnasium.wrappers"
    with pytest.raises(UsageError, match=rf"{rule}\.FlattenObservation\.$"):
        own(space)
    envs = own(space, wrap=wrappers.FlattenObservation)
    assert envs.reset().shape == (1, spaces.utils.flatdim(space))


def test_observations_of_any_length_name_another_wrapper(own):
    with pytest.raises(UsageError, match=r"got Sequence.*; wrap it in gymnasium\.wrappers\.TransformObservation\.$"):
        own(spaces.Sequence(Box(0, 1, (2,))))


@pytest.mark.parametrize("shape", [(84, 84, 3), (4, 84, 84), (84, 84)], ids=str)
def test_images_are_refused(own, shape):
    rule = "must be states, since lit-dcem does not learn from images, got Box.* in Own-v0; if these are not images"
    with pytest.raises(UsageError, match=rf"{rule}, wrap it in gymnasium\.wrappers\.FlattenObservation\.$"):
        own(Box(0, 255, shape, np.uint8))
    assert own(Box(0, 255, (3, 3), np.uint8), wrap=wrappers.FlattenObservation).observation_dim == 9
    assert own(Box(0, 255, (128,), np.uint8)).observation_dim == 128


REFUSED_ACTIONS = {
    "discrete": spaces.Discrete(2),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "dict": spaces.Dict(BOX_OF_STATES),
    "tuple": spaces.Tuple([*BOX_OF_STATES.values()]),
}


@pytest.mark.parametrize("space", REFUSED_ACTIONS.values(), ids=REFUSED_ACTIONS)
def test_actions_that_are_no_box_name_the_wrapper_that_takes_one(own, space):
    rule = r"^The actions of an environment must be a Box, got .* in Own-v0; wrap it in gymnasium.wrappers"
    with pytest.raises(UsageError, match=rf"{rule}\.TransformAction to give it a Box\.$"):
        own(actions=space)
    own(actions=space, wrap=lambda env: wrappers.TransformAction(env, lambda a: space.sample(), ACTIONS)).reset()


@pytest.mark.parametrize(
    "space",
    [
        Box(-np.inf, np.inf, (2,)),
        Box(np.array([-1, -np.inf], np.float32), np.ones(2, np.float32)),
        Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,)),
        Box(-np.inf, np.inf, (2,), np.int64),
    ],
    ids=["infinite", "one of them", "largest", "integers"],
)
def test_actions_without_bounds_name_the_wrapper_that_bounds_them(own, space):
    rule = r"must have finite bounds, got Box.* in Own-v0; wrap it in gymnasium\.wrappers\.TransformAction"
    with pytest.raises(UsageError, match=rule):
        own(actions=space)
    with pytest.raises(UsageError, match=rule):
        own(actions=Box(-1, 1, (2,)), wrap=wrappers.ClipAction)
    bounded = own(actions=space, wrap=lambda env: wrappers.TransformAction(env, lambda action: action, ACTIONS))
    bounded.reset()
    bounded.step(torch.ones(1, 2))
    assert done_in(bounded)[0].tolist() == [1, 1]


def test_nothing_to_see_or_do_is_refused(own):
    for kind, nothing in (("observations", {"observations": None}), ("actions", {"actions": None})):
        with pytest.raises(UsageError, match=f"The {kind} of an environment must be a Box, got None in Own-v0"):
            own(**nothing)
    with pytest.raises(UsageError, match="observations of an environment must have at least one number, got Box"):
        own(Box(-1, 1, (0,)))
    with pytest.raises(UsageError, match="actions of an environment must have at least one number, got Box"):
        own(actions=Box(-1, 1, (0,)))


class WithoutSeed(Own):
    def reset(self):
        return self.observation_space.sample(), {}


def returning(reset=None, step=None):
    class Wrong(Own):
        def reset(self, *, seed=None, options=None):
            return reset or super().reset(seed=seed)

        def step(self, action):
            return step or super().step(action)

    return Wrong


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            WithoutSeed,
            "reset of an environment must take seed, which determines all its randomness, got none in Own-v0",
        ),
        (returning(reset=[0.0, 0.0, 0.0]), r"reset of Own-v0 must return \(observation, info\), as .*, got list"),
        (
            returning(step=(np.zeros(3), 0.0, False, {})),
            r"step of Own-v0 must return \(observation, reward, .* 4 values",
        ),
        (returning(reset=(np.zeros(4), {})), "observation of Own-v0 must have the size of its .*space, 3, got 4"),
        (returning(step=(np.zeros(3), None, False, False, {})), "reward of Own-v0 must be numeric, got None"),
        (
            returning(step=({"a": 1}, 0.0, False, False, {})),
            r"observation of Own-v0 must be numeric, got {'a': 1}",
        ),
        (returning(step=(np.zeros(3), [0.0, 1.0], False, False, {})), "reward of Own-v0 must have the size, 1, got 2"),
    ],
)
def test_what_is_no_environment_of_gymnasium_is_one_sentence(own, kind, message):
    def use():
        envs = own(kind=kind)
        envs.reset()
        envs.step(torch.zeros(1, 2))

    with pytest.raises(UsageError, match=message):
        use()


def test_numbers_come_in_many_forms(own):
    envs = own(kind=returning(reset=([1, 2, 3], {}), step=([True, 2.5, np.float16(3)], np.array([2]), np.True_, 1, {})))
    assert envs.reset().tolist() == [[1, 2, 3]]
    steps = envs.step(torch.zeros(1, 2))
    assert steps.observations.tolist() == [[1, 2.5, 3]] and steps.rewards.tolist() == [2]
    assert steps.terminated.all() and not steps.truncated.any()
