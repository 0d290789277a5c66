"""Limits of time and options of environments: in the library, in the data of a run, and from its checkpoints."""

import gc

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit

from lit_dcem import JointRollouts, OnPolicyRollouts, Rollouts
from lit_dcem.envs import make as making
from lit_dcem.envs.make import make
from lit_dcem.errors import UsageError


class Endless(gymnasium.Env):
    """Counts the steps of an episode, and ends at ``ends``, if that is given."""

    observation_space = action_space = Box(-1, 1, (1,))

    def __init__(self, ends=None, start=0.0):
        if ends is not None and ends < 1:
            raise AssertionError("ends must be positive\nas said elsewhere")
        self.ends, self.start = ends, start

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.full(1, self.start), {}

    def step(self, action):
        self.count += 1
        return np.full(1, self.count), 1.0, self.count == self.ends, False, {}


@pytest.fixture(autouse=True)
def registered():
    making._warn_of_no_limit.cache_clear()
    gymnasium.register("Endless-v0", Endless)
    gymnasium.register("Inside-v0", lambda **options: TimeLimit(Endless(**options), 7))
    gymnasium.register("Short-v0", Endless, max_episode_steps=7)
    yield
    for name in ("Endless-v0", "Inside-v0", "Short-v0"):
        del gymnasium.registry[name]


def first_episode(envs):
    """Its last step, and how many there were."""
    envs.reset()
    for count in range(1, 20_000):
        steps = envs.step(torch.zeros(envs.num_envs, envs.action_dim))
        if steps.ended.any():
            return steps, count
    raise AssertionError("an episode without end")


@pytest.mark.parametrize(
    ("name", "options", "action_repeat", "time_limit", "steps"),
    [
        ("Endless-v0", None, 1, 12, 12),
        ("Endless-v0", None, 5, 12, 12),
        ("Short-v0", None, 2, 100, 7),
        ("Short-v0", None, 2, 5, 5),
        ("Inside-v0", None, 1, None, 7),
        ("Short-v0", {"max_episode_steps": 30}, 4, None, 30),
        ("cartpole-balance", None, 4, 10, 10),
        ("cartpole-balance", {"time_limit": 0.5}, 4, None, 50),
    ],
)
def test_an_episode_is_cut_off_at_the_first_limit_in_simulator_steps(name, options, action_repeat, time_limit, steps):
    envs = make(name, 2, action_repeat, time_limit=time_limit, env_options=options)
    last, count = first_episode(envs)
    assert last.truncated.all() and not last.terminated.any()
    assert envs.simulator_steps == 2 * steps and count == -(-steps // action_repeat)


def test_what_ends_by_itself_is_not_cut_off():
    for ends, terminated in ((3, True), (5, True), (6, False)):
        last, _ = first_episode(make("Endless-v0", time_limit=5, env_options={"ends": ends}))
        assert last.terminated.all() == terminated and last.truncated.all() != terminated


@pytest.mark.parametrize("name", ["Endless-v0", "lqr-lqr_2_1"])
def test_without_any_limit_one_warning_says_where_episodes_are_cut_off(name):
    with pytest.warns(UserWarning, match=f"^{name} has no time limit, .* after 10,000 simulator steps; set time_lim"):
        envs = make(name, action_repeat=100, env_options=None)
    assert envs.time_limit == 10_000
    make(name)  # a second warning would be an error
    making._warn_of_no_limit.cache_clear()
    make(name, rank=1)
    make(name, time_limit=1_000_000)
    if name == "Endless-v0":
        last, count = first_episode(envs)
        assert last.truncated.all() and count == 100


def test_a_state_in_the_middle_of_a_limited_episode_goes_on_bit_for_bit():
    played, resumed = (make("Pendulum-v1", 2, 3, seed, time_limit=40) for seed in (0, 1))
    played.reset()
    actions = torch.rand(40, 2, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for action in actions[:20]:
        played.reset(played.step(action).ended)
    resumed.load_state_dict(played.state_dict())
    for action in actions[20:]:
        mine, others = resumed.step(action), played.step(action)
        assert torch.equal(mine.observations, others.observations) and torch.equal(mine.truncated, others.truncated)
        assert torch.equal(resumed.reset(mine.ended), played.reset(others.ended))
    assert resumed.simulator_steps == played.simulator_steps


def test_options_reach_the_environment():
    assert make("Short-v0", env_options={"start": 0.5}).reset().tolist() == [[0.5]]
    still, moved = (make("Hopper-v5", env_options={"reset_noise_scale": scale}) for scale in (0.0, 0.1))
    assert torch.equal(still.reset(), still.reset()) and not torch.equal(moved.reset(), moved.reset())
    plain, substeps = (
        make("cartpole-balance", env_options=given) for given in (None, {"environment_kwargs": {"n_sub_steps": 3}})
    )
    assert torch.equal(plain.reset(), substeps.reset())
    push = torch.ones(1, 1)
    assert not torch.equal(plain.step(push).observations, substeps.step(push).observations)
    assert make("lqr-lqr_2_1", time_limit=9, env_options={"random": 3}).reset().shape == (1, 4)


def test_an_environment_may_change_its_options():
    class Greedy(Endless):
        def __init__(self, given):
            assert given.pop() == 1
            super().__init__()

    gymnasium.register("Greedy-v0", Greedy, max_episode_steps=3)
    try:
        options = {"given": [1]}
        make("Greedy-v0", num_envs=3, env_options=options)
        assert options == {"given": [1]}
    finally:
        del gymnasium.registry["Greedy-v0"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "Short-v0",
            {"gravity": 3},
            r"got Short-v0 with env_options {'gravity': 3}: .*unexpected keyword argument 'gravity'",
        ),
        ("Short-v0", {"ends": 0}, r"got Short-v0 with env_options {'ends': 0}: ends must be positive\.$"),
        ("Short-v0", {"ends": "x"}, r"got Short-v0 with env_options {'ends': 'x'}: '<' not supported"),
        ("Hopper-v5", {"xml_file": "/none.xml"}, r"got Hopper-v5 with env_options {'xml_file': '/none.xml'}: "),
        ("Short-v0", {"max_episode_steps": "x"}, r"got Short-v0 with env_options {'max_episode_steps': 'x'}: "),
        ("Short-v0", {"render_mode": "human"}, "env_options must leave id and render_mode and .* got render_mode"),
        ("Short-v0", {1: 2}, r"got Short-v0 with env_options {1: 2}: .*must be string"),
        (
            "cheetah-run",
            {"gravity": 3},
            r"env_options must be arguments of dm_control's cheetah-run, got {'gravity': 3}: run",
        ),
        ("cheetah-run", {"environment_kwargs": 3}, r"dm_control's cheetah-run, got {'environment_kwargs': 3}: "),
        ("cheetah-run", {"time_limit": "long"}, r"dm_control's cheetah-run, got {'time_limit': 'long'}: "),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(name, options, message):
    with pytest.raises(UsageError, match=message) as raised:
        make(name, env_options=options)
    assert "\n" not in str(raised.value)


def test_an_environment_that_wants_options_says_so():
    gymnasium.register("Wants-v0", lambda size: Endless())
    try:
        with pytest.raises(UsageError, match=r"must be one that Gymnasium can make, got Wants-v0: .*'size'"):
            make("Wants-v0")
    finally:
        del gymnasium.registry["Wants-v0"]


@pytest.mark.parametrize("kind", [Rollouts, OnPolicyRollouts, JointRollouts])
def test_data_makes_all_its_environments_with_limit_and_options(kind):
    data = kind(env="Short-v0", action_repeat=2, time_limit=5, env_options={"start": 0.5})
    envs = data.make_envs(3, 0)
    assert envs.reset().tolist() == [[0.5]] * 3 and first_episode(envs)[1] == 3
    with pytest.raises(ValueError, match="time_limit must be at least 1, got 0"):
        kind(env="Short-v0", time_limit=0)


class Closing(Endless):
    """Counts how many are open; lists a render mode that it does not take."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    opened = 0

    def __init__(self):
        super().__init__()
        Closing.opened += 1

    def close(self):
        Closing.opened -= 1


@pytest.fixture
def closing():
    Closing.opened = 0
    gymnasium.register("Closing-v0", Closing)
    yield "Closing-v0"
    del gymnasium.registry["Closing-v0"]


def test_environments_are_closed_when_nobody_needs_them(closing):
    """A validation makes ten of them, each perhaps with a process or a port."""
    envs = make(closing, num_envs=3, time_limit=7)
    envs.reset()
    assert Closing.opened == 3
    del envs
    gc.collect()
    assert Closing.opened == 0


def test_an_environment_that_takes_no_render_mode_works_without_pictures(closing):
    envs = make(closing, time_limit=7)
    assert first_episode(envs)[1] == 7
    with pytest.raises(UsageError, match="must have the render mode rgb_array to be drawn, got none in Closing-v0"):
        envs.render()
