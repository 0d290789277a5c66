"""Learn a target that is a set: y is +sqrt(x) or -sqrt(x), at random.

A regression by squared error predicts the mean of the set, 0. An energy E(x, y) can have a valley at each root, and
searches from different starts find both. Two losses are compared: "contrast" tells the data from uniform candidates, by
a softmax of minus the energies; "closest" is the squared error of the closest of three searches, with the gradient
through DCEM. Prints how far answers are from a root, and where both roots are found::

    python examples/energy_for_set_valued_targets.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_dcem import DCEM, EnergyNetwork

BOUND = 1.5
SOFT = DCEM(num_candidates=20, num_elites=4, num_iterations=4, lower=-BOUND, upper=BOUND)
HARD = SOFT.replace(temperature=0.0)


def data(count: int) -> tuple[Tensor, Tensor]:
    """Inputs from 0 to 1, and one root of each, ``[count, 1]``."""
    x = torch.rand(count, 1)
    return x, x.sqrt() * (2 * torch.randint(2, (count, 1)) - 1)


def contrast(energy: EnergyNetwork, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the data among 30 uniform candidates; nothing says that there is one answer."""
    others = BOUND * (2 * torch.rand(len(x), 30, 1) - 1)
    energies = energy(x, torch.cat([y.unsqueeze(1), others], 1))
    return -(-energies).log_softmax(1)[:, 0].mean()


def closest(energy: EnergyNetwork, x: Tensor, y: Tensor) -> Tensor:
    """Squared error of the closest of three answers, so that the other searches may find the other root."""
    starts = torch.tensor([-0.9, 0.0, 0.9]).repeat(len(x)).unsqueeze(1)
    every = x.repeat_interleave(3, 0)
    answers = SOFT(lambda points: energy(every, points), starts, 0.3).mean
    return (answers.view(-1, 3) - y).square().amin(1).mean()


def squared_error(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a prediction."""
    return (network(x) - y).square().mean()


def train(network: nn.Module, loss: Callable[..., Tensor], updates: int) -> None:
    """Lower a loss of a network on fresh data."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.PolynomialLR(optimizer, updates)
    for _ in range(updates):
        value = loss(network, *data(64))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        decay.step()


@torch.no_grad()
def searched(energy: EnergyNetwork, num_starts: int = 9) -> tuple[float, float, float]:
    """Median distance of answers from a root, share within 0.05, and share of inputs with both roots found."""
    x, starts = torch.linspace(0.05, 1, 20), torch.linspace(-1.2, 1.2, num_starts)
    every, start = (each.flatten().unsqueeze(1) for each in torch.meshgrid(x, starts, indexing="ij"))
    found = HARD(lambda y: energy(every, y), start, 0.4).best.view(-1, num_starts, 1)
    roots = torch.stack([x.sqrt(), -x.sqrt()], -1).unsqueeze(1)
    distance = (found - roots).abs()  # [inputs, starts, roots]
    nearest, is_found = distance.amin(-1), distance.amin(1) < 0.05
    return nearest.median().item(), (nearest < 0.05).float().mean().item(), is_found.all(-1).float().mean().item()


def main() -> None:
    """Train, and search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=500, help="of each network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    regression = nn.Sequential(nn.Linear(1, 32), nn.Softplus(), nn.Linear(32, 1))
    train(regression, squared_error, options.updates)
    x = torch.linspace(0.05, 1, 20).unsqueeze(1)
    off = (x.sqrt() - regression(x).abs()).abs().median()
    print(f"squared error: predictions are {off:.3f} from the nearest root (median)")
    for loss in (contrast, closest):
        energy = EnergyNetwork(hidden_dim=32, num_layers=2, x_offset=0.5, x_scale=4.0, y_scale=3.0)
        train(energy, loss, options.updates)
        median, close, both = searched(energy)
        print(f"{loss.__name__}: answers are {median:.3f} from the nearest root (median), {close:.0%}", end=" ")
        print(f"within 0.05; both roots are found for {both:.0%} of the inputs")


if __name__ == "__main__":
    main()
