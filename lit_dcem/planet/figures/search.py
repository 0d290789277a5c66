"""Figures 14 and 15: the action sequences that a search of a latent space goes through, from one state of a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from lit_dcem.embedding.drawing import draw_sequences
from lit_dcem.envs.policy import PolicyState
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.collector import Collector
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.problem import Noise, Problem
from lit_dcem.solvers.search import Search
from lit_dcem.solvers.types import Iteration
from lit_dcem.training.checkpoint import Checkpoint, find_checkpoint
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

SHOWN = (1, 5, 7, 10)
"""iterations, counted from 1 as in the paper"""
STEPS = 30
"""of uniform actions, before the search"""


@runtime_checkable
class Controller(Protocol):
    """A module that plans in a world model, whichever phase it is."""

    world_model: WorldModel
    planner: ModelPlanner


@figure("14", find=find_checkpoint, shipped=["cheetah_phase2*.ckpt", "cheetah_phase3*.ckpt"], single=True)
@figure("15", find=find_checkpoint, shipped=["walker_phase2*.ckpt", "walker_phase3*.ckpt"], single=True)
def search_iterations_of_a_checkpoint(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 14 or 15, from one run or checkpoint of `PlanetPhase2` or `PlanetPhase3`, in any task."""
    (path,) = paths
    checkpoint = Checkpoint.read(path)
    module = checkpoint.module()
    if not isinstance(module, Controller) or not isinstance(module.planner, LatentPlanner):
        rule = f"Figure {number} needs a checkpoint of PlanetPhase2 or PlanetPhase3"
        raise UsageError(f"{rule}, got {type(module).__name__} in {path}.")
    data = checkpoint.data(EnvironmentData)
    drawn = search_iterations(module.world_model, module.planner, data.make_envs(1, seed=0))
    drawn.suptitle(data.env)
    return drawn


def search_iterations(model: WorldModel, planner: LatentPlanner, envs: VectorEnv) -> Figure:
    """The decoded candidates of iterations 1, 5, 7 and 10 (rows) over the horizon, a column for each action dimension.

    The same draws every time, none of them from the global generator.

    Args:
        model: predicts.
        planner: searches; see `latent_search`.
        envs: a single one, not stepped before.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        belief = random_belief(model, envs, generator)
        iterations = latent_search(model, planner, belief, generator)
        rows = [planner.decode(iterations[number - 1].candidates, belief)[0] for number in SHOWN]
    size = model.rssm.action_dim
    figure = Figure(figsize=(1.2 + 1.9 * size, 6.5), layout="constrained")
    axes = figure.subplots(len(SHOWN), size, squeeze=False, sharex=True, sharey=True)
    for row, number, sequences in track(list(zip(axes, SHOWN, rows, strict=True)), "iterations"):
        row[0].set_ylabel(f"iteration {number}\naction")
        for axis, values in zip(row, sequences.unbind(-1), strict=True):
            draw_sequences(axis, values)
    axes[0, 0].set_ylim(-1, 1)
    for dimension in range(size):
        axes[0, dimension].set_title(f"dimension {dimension + 1}", fontsize="medium")
        axes[-1, dimension].set_xlabel("step")
    return figure


def random_belief(model: WorldModel, envs: VectorEnv, generator: torch.Generator) -> Belief:
    """The world model's belief ``[1, size]`` after some steps of uniform actions in one environment.

    Args:
        model: infers the belief.
        envs: a single one, not stepped before.
        generator: draws the actions and the samples of the belief, on the CPU.
    """

    def wander(
        observations: Float[Tensor, "1 observation"],
        actions: Float[Tensor, "1 action"],
        first: Bool[Tensor, " 1"],
        state: PolicyState | None,
    ) -> tuple[Float[Tensor, "1 action"], PolicyState]:
        before = Belief(**state) if state else model.rssm.initial(1)
        belief = model.observe(before, actions, observations, first=first, generator=generator)
        return 2 * torch.rand(actions.shape, generator=generator) - 1, belief._asdict()

    collector = Collector(envs)
    for _ in range(STEPS):
        collector.step(wander)
    assert collector.policy_state is not None
    return Belief(**collector.policy_state)


def latent_search(
    model: WorldModel, planner: LatentPlanner, belief: Belief, generator: torch.Generator
) -> tuple[Iteration, ...]:
    """Iterations of the search from a belief ``[1, size]``, in the paper's size, whatever the planner acts with.

    That is 10 iterations of 100 candidates and 10 elites. Temperature and bounds are those of the planner's solver.
    All noise comes from ``generator``, on the device of the belief.
    """
    paper = {"num_candidates": 100, "num_elites": 10, "num_kept": 0, "grad_iterations": None}
    noise = Noise(generator)
    solver = noise.solver(planner.solver.replace(**paper).traced(SHOWN[-1]))
    search, objective = Search(solver, planner.initial_std), planner.objective(Problem(model, belief, noise=noise))
    trace = search.solve(objective, belief.deter, planner.size(model.rssm.action_dim)).trace
    assert trace is not None
    return trace
