"""Plan in a world model with a fifth of the trajectories, by a learned latent space of plans; the model stays as it is.

The model here stands for anyone's: a frozen module with `step` and `reward`, an arm that reaches for targets. A decoder
maps a few latent numbers, given the state, to a plan. It is trained on the cost of what searches of its latent space
find. Then CEM over latent vectors, with a fifth of the trajectories, is compared with CEM over actions and over knots::

    python examples/cheaper_planner.py
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from lit_dcem import DCEM, ActionDecoder, EmbeddingLoss, Planner, PlanningModel

JOINTS, HORIZON, LIMIT = 4, 20, 5.0
FULL = DCEM(num_candidates=100, num_elites=10, num_iterations=10, temperature=0.0)
LATENT = DCEM(num_candidates=50, num_elites=5, num_iterations=4, temperature=0.0)


class Arm(nn.Module):
    """Four joints in a plane reach for a target, one metre of arm in all.

    A state is angles, angular velocities and target ``[..., 10]``, an action is four accelerations in rad/s^2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.damping = nn.Parameter(torch.full((JOINTS,), 0.5))  # stands for all that a model may have learned

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The state a tenth of a second later."""
        angle, velocity, target = state.split([JOINTS, JOINTS, 2], -1)
        velocity = velocity + 0.1 * (action - self.damping * velocity)
        return torch.cat([angle + 0.1 * velocity, velocity, target], -1)

    def reward(self, state: Tensor, action: Tensor) -> Tensor:
        """Nearer is better [m], and effort is bad."""
        angle, _, target = state.split([JOINTS, JOINTS, 2], -1)
        direction = angle.cumsum(-1)
        hand = torch.stack([direction.cos().mean(-1), direction.sin().mean(-1)], -1)
        return -(hand - target).norm(dim=-1) - 0.001 * action.square().sum(-1)


def states(count: int, seed: int) -> Tensor:
    """Arms that move in any shape, and targets within reach, ``[count, 10]``."""
    generator = torch.Generator().manual_seed(seed)
    angle, velocity = torch.randn(2, count, JOINTS, generator=generator)
    reach, bearing = torch.rand(2, count, generator=generator)
    reach, bearing = reach.sqrt(), 2 * torch.pi * bearing
    target = torch.stack([reach * bearing.cos(), reach * bearing.sin()], -1)
    return torch.cat([angle, 0.5 * velocity, target], -1)


def full_planner(model: PlanningModel, knots: int = HORIZON) -> Planner:
    """CEM over the actions, or over knots in time: 1,000 trajectories."""
    return Planner(model, FULL, HORIZON, JOINTS, lower=-LIMIT, upper=LIMIT, knots=knots, answer="best")


def latent_planner(model: PlanningModel, decoder: ActionDecoder, solver: DCEM = LATENT) -> Planner:
    """CEM over latent vectors: 200 trajectories."""
    # The bounds and the standard deviation are those of latent vectors.
    return Planner(model, solver, HORIZON, JOINTS, decoder=decoder, lower=-1.0, upper=1.0, std=0.5, answer="best")


def train(model: PlanningModel, updates: int) -> ActionDecoder:
    """A decoder that has learned from searches of its own latent space, from states drawn at random."""
    shape = 4, HORIZON, JOINTS
    decoder = ActionDecoder(*shape, hidden_dim=64, num_layers=2, condition_dim=10, lower=-LIMIT, upper=LIMIT)
    planner = latent_planner(model, decoder, LATENT.replace(num_candidates=30, num_iterations=3, trace=True))
    loss = EmbeddingLoss(answer=0.0, best=1.0, elites=1.0, num_elites=5)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.PolynomialLR(optimizer, updates)
    for update in range(updates):
        batch = states(16, seed=update)
        value = loss(planner.objective(batch), planner(batch).solution)  # the search is hard, and has no gradient
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        decay.step()
    return decoder


@torch.no_grad()
def measured(planner: Planner, seeds: int) -> tuple[list[float], float]:
    """Mean cost on 100 states that training has not seen, for each seed of the solver, and the least time of a plan."""
    held_out, costs, seconds = states(100, seed=10**6), [], []
    for seed in range(seeds):
        began = time.perf_counter()
        plan = planner(held_out, generator=torch.Generator().manual_seed(seed))
        seconds.append((time.perf_counter() - began) / len(held_out))
        costs.append(-plan.value.mean().item())
    return costs, 1000 * min(seconds)


def main() -> None:
    """Train a decoder, and compare planners."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=500, help="of the decoder")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = Arm().requires_grad_(False)
    latent = latent_planner(model, train(model, options.updates))
    planners = {"actions": full_planner(model), "knots": full_planner(model, knots=8), "latent vectors": latent}
    for name, planner in planners.items():
        costs, milliseconds = measured(planner, seeds=5)
        spread = f"cost {sum(costs) / len(costs):.3f} ({min(costs):.3f} to {max(costs):.3f})"
        trajectories = planner.solver.num_evaluations
        print(f"search over {name}: {spread}, {trajectories} trajectories, {milliseconds:.2f} ms a plan")


if __name__ == "__main__":
    main()
