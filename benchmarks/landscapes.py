"""Ten test functions for minimisers, each with its least value 0 at a random point of the box."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HALF_WIDTH = 5.0
"""the box is [-5, 5] in every dimension"""
SHIFT = 2.5
"""optima are uniform in [-2.5, 2.5] in every dimension, so the middle of the box is no better than other points"""


@dataclass(frozen=True)
class Landscape:
    """Several instances of one function: each has its own optimum and, if the function is rotated, its own rotation.

    Call it with points ``[B, N, D]`` of the B instances; it returns values ``[B, N]``.
    """

    value: Callable[[Tensor], Tensor]
    optimum: Tensor
    """[B, D]"""
    rotation: Tensor | None
    """[B, D, D]"""

    def __call__(self, points: Tensor) -> Tensor:
        offset = points - self.optimum.unsqueeze(1)
        return self.value(offset if self.rotation is None else offset @ self.rotation)

    def instance(self, index: int) -> Landscape:
        """Return one of the instances, as a landscape with a single one."""
        rotation = None if self.rotation is None else self.rotation[index : index + 1]
        return Landscape(self.value, self.optimum[index : index + 1], rotation)


class Several:
    """Landscapes of the same dimension as one that has all their instances: ``[F * B, N, D]`` to ``[F * B, N]``."""

    def __init__(self, landscapes: Sequence[Landscape]) -> None:
        self.landscapes = landscapes
        self.optimum = torch.cat([each.optimum for each in landscapes])

    def __call__(self, points: Tensor) -> Tensor:
        parts = zip(self.landscapes, points.chunk(len(self.landscapes)), strict=True)
        return torch.cat([each(part) for each, part in parts])


def landscape(name: str, dim: int, seeds: int) -> Landscape:
    """Make one instance for each seed 0, 1, ...; they are the same however many there are."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    optima = [SHIFT * (2 * torch.rand(dim, generator=each, dtype=torch.float64) - 1) for each in generators]
    rotations = None
    if name in ROTATED:
        matrices = (torch.randn(dim, dim, generator=each, dtype=torch.float64) for each in generators)
        rotations = torch.stack([torch.linalg.qr(matrix).Q for matrix in matrices])
    return Landscape(FUNCTIONS[name], torch.stack(optima), rotations)


# Each takes offsets from the optimum [..., D], and is scaled so that the box is the function's usual domain.


def sphere(z: Tensor) -> Tensor:
    return z.square().sum(-1)


def ellipsoid(z: Tensor) -> Tensor:
    """Return a sum of squares with condition number 1e6."""
    return (torch.logspace(0, 6, z.shape[-1], dtype=z.dtype) * z.square()).sum(-1)


def rosenbrock(z: Tensor) -> Tensor:
    u = z + 1
    return (100 * (u[..., 1:] - u[..., :-1].square()).square() + z[..., :-1].square()).sum(-1)


def zakharov(z: Tensor) -> Tensor:
    line = (0.5 * torch.arange(1, z.shape[-1] + 1, dtype=z.dtype) * z).sum(-1)
    return z.square().sum(-1) + line.square() + line**4


def rastrigin(z: Tensor) -> Tensor:
    return (z.square() + 10 * (1 - torch.cos(2 * math.pi * z))).sum(-1)


def ackley(z: Tensor) -> Tensor:
    z = z * (32 / HALF_WIDTH)
    bowl = 20 * (1 - torch.exp(-0.2 * z.square().mean(-1).sqrt()))
    return bowl + math.e - torch.exp(torch.cos(2 * math.pi * z).mean(-1))


def griewank(z: Tensor) -> Tensor:
    z = z * (600 / HALF_WIDTH)
    index = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    return z.square().sum(-1) / 4000 + 1 - torch.cos(z / index.sqrt()).prod(-1)


def styblinski_tang(z: Tensor) -> Tensor:
    u = z + _STYBLINSKI_TANG_OPTIMUM
    return (_styblinski_tang_term(u) - _styblinski_tang_term(_STYBLINSKI_TANG_OPTIMUM)).sum(-1)


def levy(z: Tensor) -> Tensor:
    w = 1 + z * (10 / HALF_WIDTH) / 4
    first = torch.sin(math.pi * w[..., 0]).square()
    middle = (w[..., :-1] - 1).square() * (1 + 10 * torch.sin(math.pi * w[..., :-1] + 1).square())
    last = (w[..., -1] - 1).square() * (1 + torch.sin(2 * math.pi * w[..., -1]).square())
    return first + middle.sum(-1) + last


def _styblinski_tang_term(u):
    return 0.5 * (u**4 - 16 * u**2 + 5 * u)


# The least root of 4 u^3 - 32 u + 5 = 0, by Viete's formula.
_STYBLINSKI_TANG_OPTIMUM = (
    2 * math.sqrt(8 / 3) * math.cos(math.acos(-5 / 8 / math.sqrt((8 / 3) ** 3)) / 3 - 4 * math.pi / 3)
)

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sphere": sphere,
    "ellipsoid": ellipsoid,
    "rotated ellipsoid": ellipsoid,
    "Rosenbrock": rosenbrock,
    "Zakharov": zakharov,
    "Rastrigin": rastrigin,
    "rotated Ackley": ackley,
    "rotated Griewank": griewank,
    "Styblinski-Tang": styblinski_tang,
    "Levy": levy,
}
ROTATED = {name for name in FUNCTIONS if name.startswith("rotated")}
MULTIMODAL = {"Rastrigin", "rotated Ackley", "rotated Griewank", "Styblinski-Tang", "Levy"}
