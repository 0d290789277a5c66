"""Design with choices from a catalogue: a low-pass filter whose seven coefficients are powers of two, or zero.

Such a filter multiplies by shifting bits; each coefficient that is not zero costs an adder. A design is seven choices
among nine values, 4,782,969 in all, few enough to try every one. The search draws from a `Categorical` distribution.
Prints how often it finds the best design, with how many evaluations, and a price of adders that it learns::

    python examples/integer_design.py
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from lit_dcem import Solution, minimize
from lit_dcem.solvers.distributions import Categorical
from lit_dcem.solvers.weights import SoftTopK

VALUES = torch.tensor([-1 / 8, -1 / 16, -1 / 32, 0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2])
TAPS, CHOICES = 7, len(VALUES)
CANDIDATES, ITERATIONS = 200, 15
FREQUENCIES = torch.cat([torch.linspace(0, 0.35, 24), torch.linspace(0.55, 1, 24)]) * math.pi
WANTED = torch.cat([torch.ones(24), torch.zeros(24)])
"""pass low frequencies, stop high ones"""
WAVES = torch.cos(torch.arange(TAPS).unsqueeze(1) * FREQUENCIES) * torch.tensor([1.0] + [2.0] * (TAPS - 1)).unsqueeze(1)
"""the response of a symmetric filter to each coefficient ``[taps, frequencies]``"""


def error(coefficients: Tensor) -> Tensor:
    """Squared error of the response, in thousandths, of filters ``[..., taps]``."""
    return 1000 * (coefficients @ WAVES - WANTED).square().mean(-1)


def adders(designs: Tensor) -> Tensor:
    """How many coefficients are not zero, of one-hot blocks ``[..., taps * choices]``."""
    return (designs.unflatten(-1, (TAPS, CHOICES)) * (VALUES != 0)).sum((-2, -1))


def cost(designs: Tensor, price: Tensor) -> Tensor:
    """Error and price of one-hot designs ``[B, N, taps * choices]``; a price for each of B problems."""
    return error(designs.unflatten(-1, (TAPS, CHOICES)) @ VALUES) + price.unsqueeze(-1) * adders(designs)


def search(price: Tensor) -> Solution:
    """Designs for the prices ``[B]`` of an adder."""
    catalogue = Categorical(CHOICES, min_probability=0.01)  # no choice is lost for good
    options = {"weighting": SoftTopK(20, 0.1), "num_candidates": CANDIDATES, "num_iterations": ITERATIONS}
    start = torch.zeros(len(price), TAPS * CHOICES)  # all choices are equally likely
    return minimize(lambda designs: cost(designs, price), start, distribution=catalogue, **options)


def brute_force(price: float) -> tuple[float, int]:
    """The least cost of all designs, and the adders of the design that has it."""
    some, best = torch.cartesian_prod(*[VALUES] * (TAPS - 1)), (math.inf, 0)
    for first in VALUES:
        designs = torch.cat([some, first.expand(len(some), 1)], -1)
        counts = (designs != 0).sum(-1)
        value, index = (error(designs) + price * counts).min(0)
        best = min(best, (value.item(), int(counts[index])))
    return best


def learned_price(wanted: int, num_updates: int) -> float:
    """The price at which designs have the wanted number of adders, by the gradient through the search."""
    log_price = torch.tensor([0.1]).log().requires_grad_()
    optimizer = torch.optim.Adam([log_price], lr=0.2, betas=(0.5, 0.9))
    for _ in range(num_updates):
        solution = search(log_price.exp())
        loss = (adders(solution.mean) - wanted).square().sum()  # of the likeliest choices; soft in its gradient
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return log_price.exp().item()


def main() -> None:
    """Design, and compare with all designs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--searches", type=int, default=100, help="searches for the same design, each with other noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adders", type=int, default=3, help="how many adders the learned price should lead to")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    best, _ = brute_force(1.0)
    found = search(torch.ones(options.searches)).best_value
    hits = (found < best + 1e-3).sum().item()
    print(f"{hits} of {options.searches} searches find the best of {CHOICES**TAPS} designs", end=", ")
    print(f"with {CANDIDATES * ITERATIONS} evaluations each")
    print(f"best cost {best:.3f}; worst that a search found {found.max():.3f}")
    price = learned_price(options.adders, 30)
    print(f"at a price of {price:.2f}, found for {options.adders} adders, the best design has {brute_force(price)[1]}")


if __name__ == "__main__":
    main()
