"""Peers of the solvers from other packages, each where it is installed: soft sorting of difftopk, and pytorch-mppi."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from measure import Case
from torch import Tensor

from lit_dcem import Planner, mppi
from lit_dcem.cartpole.dynamics import MAX_FORCE, Cartpole, reward, step

HAS_DIFFTOPK = find_spec("difftopk") is not None
HAS_PYTORCH_MPPI = find_spec("pytorch_mppi") is not None
SAMPLES, STEPS, STD = 1000, 20, 20.0
"""of the plans by MPPI; the standard deviation is in N"""


def soft_sort(scores: Tensor, k: int) -> Tensor:
    """Sum the first k rows of SoftSort's matrix: of each rank, the shares of the candidates that may have it."""
    return _difftopk().SoftSort(tau=1.0)(scores)[:, :k].sum(1)


def sorting_network(scores: Tensor, k: int) -> Tensor:
    """Sum what a relaxed bitonic network says of the k highest ranks, with the package's default steepness."""
    return _network(scores.shape[1], k)(scores)[1].sum(-1)


def soft_top_ks(shape: tuple[int, int]) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Make the soft top-k's of difftopk that rows of this shape leave memory for: they compare all pairs."""
    pairs = shape[0] * shape[1] ** 2
    most = {"difftopk SoftSort": (soft_sort, 25_000_000), "difftopk bitonic network": (sorting_network, 1_000_000)}
    return {name: project for name, (project, limit) in most.items() if HAS_DIFFTOPK and pairs <= limit}


def mppi_cases() -> Iterator[Case]:
    """Make the case of one plan for a cartpole by MPPI, from the same distribution."""
    if not HAS_PYTORCH_MPPI:
        return
    state, actions = torch.tensor([0.0, 0.0, -1.0, 0.0, 0.0]), STD * torch.randn(STEPS, SAMPLES)
    planner = Planner(Cartpole(), _ours(), STEPS, 1, lower=-MAX_FORCE, upper=MAX_FORCE, std=STD)
    floor = partial(_rollout, state.expand(SAMPLES, -1), actions)
    peers = {
        "pytorch-mppi": partial(_theirs().command, state, shift_nominal_trajectory=False),
        "pytorch-mppi, with the value of its plan": partial(_command_and_value, _theirs(), state),
    }
    yield Case(
        "mppi, a plan for a cartpole", partial(planner.act, state.unsqueeze(0)), peers, "its rollouts alone", floor
    )


def _ours() -> Any:
    return mppi(1.0, num_candidates=SAMPLES)


def _theirs() -> Any:
    from pytorch_mppi import MPPI  # pyright: ignore[reportMissingImports]

    def cost(state: Tensor, action: Tensor) -> Tensor:
        return -reward(state, action.squeeze(-1))

    def dynamics(state: Tensor, action: Tensor) -> Tensor:
        return step(state, action.squeeze(-1))

    bounds = {"u_min": torch.tensor([-MAX_FORCE]), "u_max": torch.tensor([MAX_FORCE])}
    variance, start = torch.tensor([[STD**2]]), torch.zeros(STEPS, 1)
    return MPPI(dynamics, cost, 5, variance, num_samples=SAMPLES, horizon=STEPS, U_init=start, **bounds)


def _command_and_value(controller: Any, state: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `Planner.act` does: it says what its plan is worth, too."""
    action = controller.command(state, shift_nominal_trajectory=False)
    return action, _rollout(state.unsqueeze(0), controller.U)


@torch.no_grad()
def _rollout(state: Tensor, actions: Tensor) -> Tensor:
    rewards = []
    for action in actions.unbind():
        rewards.append(reward(state, action))
        state = step(state, action)
    return torch.stack(rewards).sum(0)


@cache
def _network(size: int, k: int) -> Any:
    return _difftopk().DiffTopkNet("bitonic", size, k)


def _difftopk() -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that an optional package is missing
        import difftopk  # pyright: ignore[reportMissingImports]
    return difftopk
