"""A trained checkpoint of PlaNet as a controller for one environment, which the caller steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_dcem.envs.make import make_simulation
from lit_dcem.envs.policy import PolicyState
from lit_dcem.envs.simulation import DivergenceError, Simulation, finite, in_bounds
from lit_dcem.errors import UsageError, require
from lit_dcem.files.hub import FORM, START, fetch
from lit_dcem.files.shipped import find_shipped, shipped
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.planet.planning.imagination import predicted_reward
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.stream import checked_seed

PRETRAINED = {
    "cartpole-swingup": "swingup_phase3_2",
    "cheetah-run": "cheetah_phase1_fast_0",
    "walker-walk": "walker_phase1_fast_0",
}
"""the shipped checkpoint with the highest mean return, by task"""


@dataclass(frozen=True)
class Plan:
    """What a controller intends: H actions, of which the first is the one that it returned."""

    actions: np.ndarray
    """``[H, *shape]``, in the environment's own units, shape and type"""
    rewards: np.ndarray
    """``[H]`` of float32: what the world model expects each action to be rewarded with, over all its repeats; where the
    planner knows its reward, that of the observations that the model expects"""


def load_controller(path: str | Path, trust: Iterable[str] = (), seed: int = 0) -> Controller:
    """A trained checkpoint of PlaNet as a controller.

    dm_control and MuJoCo are imported without OpenGL, unless they are imported before: to draw a simulation yourself,
    import them first.

    Args:
        path: of the checkpoint: a file, a run folder, or the name of a shipped one, such as ``swingup_phase2_1``.
        trust: your own packages whose classes the checkpoint may name, besides ours, torch's and those that are
            imported; and of environments of your own.
        seed: of the controller's noise, see `Controller.reset`.

    Raises:
        UsageError: no whole checkpoint of PlaNet, one that names code that is not trusted, or one whose environment is
            not installed or has other sizes by now.
        ValueError: a seed below 0 or of 2**63 and more.
    """
    module, data = _read(path, trust)
    simulation, rssm = make_simulation(data.env, data.env_options), module.world_model.rssm
    sizes = simulation.observation_dim, len(simulation.lower)
    if sizes != (rssm.observation_dim, rssm.action_dim):
        rule = f"The environment of {path}, {data.env}, must have the sizes that it was trained with"
        ours = f"{rssm.observation_dim} numbers an observation and {rssm.action_dim} an action"
        raise UsageError(f"{rule}, {ours}, got {sizes[0]} and {sizes[1]}.")
    return Controller(module.policy, simulation, data.env, data.action_repeat, seed)


def load_pretrained(name: str, sha256: str | None = None, trust: Iterable[str] = (), seed: int = 0) -> Controller:
    """The best trained controller of a task, or a certain one, wherever it is kept.

        controller = load_pretrained("cheetah-run")

    Args:
        name: a task of `PRETRAINED`; the name of a shipped checkpoint; or ``hf://USER/REPOSITORY/FILE@REVISION``, a
            public file of the Hugging Face Hub, which is downloaded once (`lit_dcem.files.hub.fetch`).
        sha256: of a file of the Hub, which must have it.
        trust: see `load_controller`.
        seed: see `load_controller`.

    Raises:
        UsageError: an unknown name, a file that cannot be downloaded or has another hash, or see `load_controller`.
        ValueError: a seed below 0 or of 2**63 and more.
    """
    if name.startswith(START):
        return load_controller(fetch(name, sha256), trust, seed)
    require(sha256 is None, "sha256 is for files of the Hub", f"one for {name}")
    path = Path(find_shipped(PRETRAINED.get(name, name), "checkpoints"))
    if path.parent != shipped("checkpoints"):
        rule = f"A pretrained controller must be {', '.join(PRETRAINED)}, the name of a shipped checkpoint or {FORM}"
        raise UsageError(f"{rule}, got {name}.")
    return load_controller(path, trust, seed)


def _read(path: str | Path, trust: Iterable[str]) -> tuple[Planet, EnvironmentData]:
    """Module and data of a checkpoint."""
    checkpoint = Checkpoint.read(path, trust)
    module = checkpoint.module()
    if not isinstance(module, Planet):
        got = f"{type(module).__name__} in {checkpoint.path}"
        raise UsageError(f"A controller needs a checkpoint of PlanetPhase1 to 3 or PlanetJoint, got {got}.")
    return module, checkpoint.data(EnvironmentData)


class Controller:
    """Plans every action in a world model, for one environment that the caller steps; made by `load_controller`.

        controller = load_controller("swingup_phase2_1")
        controller.reset()
        action = controller.act(observation)

    Observations and actions are the environment's own. Of Gymnasium: the observation that ``reset`` and ``step``
    return, and an action in the bounds of the Box, of its shape and type. Of dm_control: ``timestep.observation``, and
    an action within the specification. An action is meant for `action_repeat` steps of the simulator. What the
    controller has not seen it does not know: it must be asked at each decision, and must be told where an episode
    begins by `reset`.

    Args:
        policy: acts.
        simulation: of the environment, for its spaces alone: it is never stepped.
        env: its name.
        action_repeat: see `action_repeat`.
        seed: of the noise.
    """

    env: str
    """name of the environment, as in the config of training"""
    action_repeat: int
    """steps of the simulator that each action was repeated for in training; the caller's to do"""

    def __init__(
        self, policy: ModelPolicy, simulation: Simulation, env: str, action_repeat: int, seed: int = 0
    ) -> None:
        self.env, self.action_repeat = env, action_repeat
        self._generator = torch.Generator(policy.model.rssm.recurrent.weight.device)
        self._policy, self._simulation = replace(policy, generator=self._generator), simulation
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode: call it whenever the environment is reset. A new controller begins one by itself.

        Args:
            seed: begins the controller's noise anew: the same seed and observations give the same actions, whatever
                else draws random numbers. By default the noise continues, so that no two episodes have the same.

        Raises:
            ValueError: a seed below 0 or of 2**63 and more.
        """
        if seed is not None:
            self._generator.manual_seed(checked_seed(seed))
        self._action = torch.zeros(1, len(self._simulation.lower))
        self._first = torch.ones(1, dtype=torch.bool)
        self._state: PolicyState | None = None

    def act(self, observation: Any) -> np.ndarray:
        """The next action, in the environment's own units, shape and type.

        Args:
            observation: the latest, as the environment gives it.

        Raises:
            UsageError: an observation of another environment, or one that is not finite, or a plan that is not, since
                no candidate has a finite return; the controller stays as it was.
        """
        observations = torch.from_numpy(self._checked(observation)).unsqueeze(0)
        before = self._generator.get_state()
        actions, state = self._policy(observations, self._action, self._first, self._state)
        if not actions.isfinite().all():
            self._generator.set_state(before)
        require(bool(actions.isfinite().all()), "A plan needs a candidate with a finite predicted return", "none")
        self._state = state
        self._action, self._first = actions.cpu().float().clamp(-1, 1), torch.zeros(1, dtype=torch.bool)
        return self._own_units(self._action[0])

    @property
    def plan(self) -> Plan:
        """The plan that the last action began.

        Raises:
            RuntimeError: there was no action since the last reset.
        """
        if self._state is None:
            raise RuntimeError("The plan of a controller must be asked for after act, got no action since the reset.")
        belief, model = Belief(*(self._state[name] for name in Belief._fields)), self._policy.model
        actions = self._state["plan"].transpose(0, 1)
        with torch.inference_mode():
            beliefs = model.rssm.imagine(belief, actions, sample=False)
            known = self._policy.planner.options.known_reward
            rewards = predicted_reward(model, beliefs, actions, known).squeeze(1)
        own = [self._own_units(action) for action in actions.squeeze(1).cpu().float().clamp(-1, 1)]
        return Plan(np.stack(own), rewards.cpu().float().numpy())

    def _checked(self, observation: Any) -> np.ndarray:
        """As numbers ``[O]`` of float32."""
        numbers = self._simulation.numbers(observation)
        try:
            return finite(numbers)
        except DivergenceError as error:
            got = f"{numbers.tolist()} of {self.env}"
            raise UsageError(f"An observation must be of finite numbers, got {got:.200}.") from error

    def _own_units(self, action: Tensor) -> np.ndarray:
        return self._simulation.shaped(in_bounds(self._simulation, action.numpy()))
