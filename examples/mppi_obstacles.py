"""Steer a point around obstacles by MPPI (Williams et al. 2017), and draw what it imagined on the way.

MPPI is one iteration of the search: the plan is the mean of all candidates, weighted by a softmax of their returns.
The model is that of planning_with_your_own_model.py. Prints when each of six points arrives and how close it comes to
an obstacle, and draws the paths::

    python examples/mppi_obstacles.py --picture mppi.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from planning_with_your_own_model import GOAL, OBSTACLES, RADIUS, PointMass, clearance
from torch import Tensor

from lit_dcem import Planner, mppi

HORIZON, STEPS = 25, 60


def drive(model: PointMass, seed: int, num_candidates: int, temperature: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    """States ``[steps, 6, 4]`` of six drives, and the candidates of some plans of the middle one, ``[N, H, 2]``."""
    torch.manual_seed(seed)
    solver = mppi(temperature, num_candidates=num_candidates, trace=True)  # the trace is for the picture
    planner = Planner(model, solver, HORIZON, action_dim=2, lower=-1.5, upper=1.5)
    starts = torch.linspace(-1.0, 1.0, 6)
    state = torch.stack([torch.full_like(starts, -1.5), starts, 0 * starts, 0 * starts], -1)
    memory, states, imagined = None, [state], []
    with torch.no_grad():
        for step in range(STEPS):
            plan = planner(state, memory)
            if step % 10 == 0 and plan.solution.trace is not None:
                imagined.append(rollouts(model, state[2], plan.solution.trace[0].candidates[2, :60]))
            memory, state = plan.memory, model.step(state, plan.actions[:, 0])
            states.append(state)
    return torch.stack(states), imagined


def rollouts(model: PointMass, state: Tensor, candidates: Tensor) -> Tensor:
    """Positions ``[N, H, 2]`` under candidates ``[N, H * 2]``."""
    state, positions = state.expand(len(candidates), 4), []
    for action in candidates.unflatten(-1, (HORIZON, 2)).unbind(1):
        state = model.step(state, action)
        positions.append(state[:, :2])
    return torch.stack(positions, 1)


def draw(states: Tensor, imagined: list[Tensor], path: Path) -> None:
    """The six paths, the obstacles, and what was imagined along one path."""
    axes = (figure := Figure((7, 4.5), layout="constrained")).add_subplot(aspect="equal", xlim=(-1.8, 2.5))
    for candidates in imagined:
        axes.plot(*candidates.permute(2, 1, 0), color="tab:blue", linewidth=0.3, alpha=0.5)
    for x, y in OBSTACLES.tolist():
        axes.add_artist(Circle((x, y), RADIUS, color="tab:gray"))
    axes.plot(*states[..., :2].permute(2, 0, 1), color="black", linewidth=1.2)
    axes.plot(*GOAL.tolist(), marker="*", color="tab:red", markersize=14)
    axes.set_ylim(-1.6, 1.6)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Drive, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--picture", type=Path, help="where to draw the drives, .png or .pdf")
    parser.add_argument("--candidates", type=int, default=400, help="of a plan")
    parser.add_argument("--temperature", type=float, default=1.0, help="in the units of the return; lower is greedier")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    states, imagined = drive(PointMass(), options.seed, options.candidates, options.temperature)
    closest, last = clearance(states).amin(0), (states[-1, :, :2] - GOAL).norm(dim=-1)
    arrived = (last < 0.15) & (closest > 0)
    print(f"arrived: {arrived.sum()} of {len(arrived)}, clearance at least {closest.min():.3f} m", end=", ")
    print(f"at most {last.max():.3f} m from the goal after {STEPS} steps")
    if options.picture:
        draw(states, imagined, options.picture)


if __name__ == "__main__":
    main()
