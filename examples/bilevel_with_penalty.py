"""Solve a bilevel problem with constraints: a leader sets x, and a follower answers with a constrained minimum.

The follower's problem is non-convex and has many local minima::

    y*(x) = argmin_y  -y1^2 - 2 x y2 + ripples   subject to  |y|^2 <= 1  and  y1 >= 0

Its solution is known: y* = (sqrt(1 - x^2), x). The leader wants y* close to a target, and follows the gradient through
DCEM. The bound is one of the solver; the other constraint is a penalty in the objective. Prints what the leader finds,
and how errors depend on the weight of the penalty::

    python examples/bilevel_with_penalty.py
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from lit_dcem import DCEM

TARGET = torch.tensor([1.2, 0.9], dtype=torch.float64)
BEST = 0.6
"""the leader's optimum: there y* = (0.8, 0.6), the point of the disc closest to the target"""
X = torch.tensor([-0.7, -0.3, 0.0, 0.3, 0.7], dtype=torch.float64)
"""problems on which gradients are checked"""


def penalised(x: Tensor, y: Tensor, weight: float) -> Tensor:
    """The follower's cost ``[B, N]`` of answers ``[B, N, 2]`` to x ``[B]``, with the constraint as a penalty.

    The penalty grows with the violation, not with its square: it is exact. The minimum does not move, provided that the
    weight is above the constraint's multiplier, here 1.
    """
    x, (y1, y2) = x.unsqueeze(-1), y.unbind(-1)
    ripples = 0.5 * (1 - torch.cos(8 * (y2 - x)))
    violation = (y.square().sum(-1) - 1).clamp_min(0)
    return -y1.square() - 2 * x * y2 + ripples + weight * violation


def follower(x: Tensor, weight: float, seed: int = 0) -> Tensor:
    """The answers y* ``[B, 2]`` to x ``[B]``, found by search."""
    solver = DCEM(num_candidates=200, num_elites=20, num_iterations=10, temperature=0.1, lower=[0.0, -1.5], upper=1.5)
    start = x.new_tensor([[0.5, 0.0]]).expand(len(x), 2)
    noise = torch.Generator().manual_seed(seed)
    return solver.with_generator(noise)(lambda y: penalised(x, y, weight), start, 0.5).mean


def exact(x: Tensor) -> Tensor:
    """The follower's solutions ``[B, 2]``, which the search does not know."""
    return torch.stack([(1 - x.square()).sqrt(), x], -1)


def loss(y: Tensor) -> Tensor:
    """The leader's loss ``[B]``."""
    return (y - TARGET).square().sum(-1)


def gradient(x: Tensor, answer: Tensor) -> Tensor:
    """The derivative of the leader's loss by x, through the follower's answer."""
    return torch.autograd.grad(loss(answer).sum(), x)[0]


def errors(weight: float, seed: int) -> tuple[float, float, float]:
    """Of answers, of gradients against exact ones, and of gradients against finite differences; the largest of X."""
    x, step = X.clone().requires_grad_(), 1e-5
    answer = follower(x, weight, seed)
    found = gradient(x, answer)
    difference = loss(follower(X + step, weight, seed)) - loss(follower(X - step, weight, seed))
    wrong = answer - exact(x), found - gradient(x, exact(x)), found - difference / (2 * step)
    return tuple(each.abs().max().item() for each in wrong)  # pyright: ignore[reportReturnType]


def lead(weight: float, num_updates: int) -> float:
    """The x that the leader finds, from -0.5 on."""
    x = torch.tensor([-0.5], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.05)
    for update in range(num_updates):
        optimizer.zero_grad()
        loss(follower(x, weight, seed=update)).sum().backward()
        optimizer.step()
    return x.item()


def main() -> None:
    """Lead, and check the gradients."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=150, help="gradient steps of the leader")
    parser.add_argument("--seed", type=int, default=0, help="of the noise for the check of the gradients")
    options = parser.parse_args()
    print(f"the leader finds x = {lead(2.0, options.updates):.4f}; the optimum is {BEST}")
    for weight in (2.0, 10.0, 100.0):
        answers, gradients, differences = errors(weight, options.seed)
        print(f"penalty {weight:g}: largest error of y* {answers:.4f}, of the gradient {gradients:.4f},", end=" ")
        print(f"against finite differences of the search {differences:.1e}")


if __name__ == "__main__":
    main()
