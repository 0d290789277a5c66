"""Draw docs/figures/idea.png: one iteration of DCEM, its weights, and gradients of its answer."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from lit_dcem import dcem, lml

COUNT, ELITES = 60, 10


def value(x: torch.Tensor, centre: torch.Tensor | float) -> torch.Tensor:
    """A valley with ripples."""
    return (x - centre).square() + 0.6 * torch.cos(5 * (x - centre))


def scores_of(values: torch.Tensor) -> torch.Tensor:
    """Minus the values, standardized, as `dcem` does."""
    return -(values - values.mean()) / values.std()


def candidates(axis: Axes) -> torch.Tensor:
    """Candidates on the function, dark where their weight is large; returns their scores."""
    grid = torch.linspace(-2.5, 3.5, 400)
    axis.plot(grid, value(grid, 0.7), color="0.8", zorder=1)
    points = 1.2 * torch.randn(COUNT)
    scores = scores_of(value(points, 0.7))
    axis.scatter(points, value(points, 0.7), c=lml(scores, ELITES), cmap="Blues", edgecolors="0.5", zorder=2)
    axis.set(xlabel="$y$", ylabel="$f(y)$", title="candidates and their weights")
    return scores


def weights(axis: Axes, scores: torch.Tensor) -> None:
    """Weights against ranks, for some temperatures."""
    ordered = scores.sort(descending=True).values
    hard = (torch.arange(COUNT) < ELITES).float()
    axis.step(range(1, COUNT + 1), hard, where="mid", color="black", label="0: CEM")
    for temperature in (0.1, 1.0):
        axis.plot(range(1, COUNT + 1), lml(ordered, ELITES, temperature), label=f"{temperature:g}")
    axis.set(xlabel="rank of the candidate", title=f"weights, which sum to {ELITES}")
    axis.legend(title="temperature")


def answers(axis: Axes) -> None:
    """The answer against the centre of the function, with slopes from backward."""
    centres = torch.linspace(-1.5, 1.5, 13, requires_grad=True)
    solution = dcem(
        lambda x: value(x[..., 0], centres.unsqueeze(1)), torch.zeros(13, 1), 1.2, common_noise=True, num_candidates=300
    )
    (slopes,) = torch.autograd.grad(solution.mean.sum(), centres)
    x, y = centres.detach(), solution.mean.detach().squeeze(1)
    for each in range(13):
        ends = torch.tensor([-0.1, 0.1])
        axis.plot(x[each] + ends, y[each] + slopes[each] * ends, color="C3")
    axis.scatter(x, y, color="C0", s=12, zorder=3)
    axis.set(xlabel="$\\theta$", ylabel="$\\hat{y}(\\theta)$", title="answers and their gradients")


def main(out: Path) -> None:
    """Draw all three into a file."""
    torch.manual_seed(3)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    weights(axes[1], candidates(axes[0]))
    answers(axes[2])
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures/idea.png"))
