"""What a planner is asked: which environments to plan for, in which model, and where the random numbers come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.solvers.sampling_solver import SamplingSolver


class Rest(NamedTuple):
    """The part of the last plans that has not been carried out yet."""

    plan: Float[Tensor, "envs horizon action"]
    """the last plan, one step later; its last action is repeated"""
    counts: Bool[Tensor, " envs"]
    """false where there was no plan, because an episode begins"""


@dataclass(frozen=True)
class Noise:
    """Where the random numbers of a plan come from: those of the search, and those of the imagined states."""

    generator: torch.Generator | None = None
    """the only source, on the device of the beliefs; torch's global generator if none is given"""
    common: bool = False
    """give every environment the same numbers, so that the plan for one does not depend on the others"""

    def solver(self, solver: SamplingSolver) -> SamplingSolver:
        """The solver, drawing from this noise."""
        changes = {"common_noise": True} if self.common else {}
        return solver.replace(**changes if self.generator is None else {**changes, "generator": self.generator})

    def states(
        self, model: WorldModel, actions: Float[Tensor, "horizon envs candidates action"]
    ) -> Float[Tensor, "horizon some_envs candidates stoch_dim"]:
        """Standard normal numbers for imagined states: of each environment, or one row for all."""
        return model.rssm.draw_noise(actions[:, :1] if self.common else actions, self.generator)


@dataclass(frozen=True)
class Problem:
    """E environments to plan for, as a world model believes them to be."""

    model: WorldModel
    """predicts"""
    belief: Belief
    """where the plans start, ``[E, size]``"""
    rest: Rest | None = None
    """of the last plans, for planners that depend on it"""
    noise: Noise = Noise()
    frozen: bool = False
    """let no gradient reach the model"""
