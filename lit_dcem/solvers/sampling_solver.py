"""What `DCEM` and `Minimizer` share: options by name, bounds, and the number of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.iteration import as_bounds, clamped
from lit_dcem.solvers.options import candidates_per_iteration, plain
from lit_dcem.solvers.solver import Solver

Same = TypeVar("Same", bound="SamplingSolver")


class SamplingSolver(Solver):
    """A solver that evaluates candidates, with its options in the attribute ``options``.

    Options that learn, parameters and modules, are part of the solver: optimizers, devices, checkpoints and
    `torch.func.functional_call` find them.

    Args:
        options: the values of all options, by name.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """of all options"""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._options = {name: plain(value) for name, value in options.items()}
        learned = dict(_learned(self._options))
        if learned:
            self.learned = nn.Module()
        for name, value in learned.items():
            setattr(self.learned, name, value)  # which registers it

    @property
    def options(self) -> dict[str, Any]:
        """The values of all options, by name; those that learn as they are registered, also where one was replaced."""
        learned = getattr(self, "learned", None)
        if learned is None:
            return self._options
        return {name: _as_registered(name, value, learned) for name, value in self._options.items()}

    def clamp(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Points clamped to the bounds of the search."""
        return clamped(points, as_bounds(self.options["lower"], self.options["upper"], points))

    def replace(self: Same, **changes: Any) -> Same:
        """A solver with some options changed."""
        return type(self)(**{**self.options, **changes})

    def traced(self: Same, num_iterations: int | None = None) -> Same:
        """A copy that returns a trace, with another number of iterations if one is given."""
        return self.replace(trace=True, **({} if num_iterations is None else {"num_iterations": num_iterations}))

    def with_horizon(self: Same, horizon: int) -> Same:
        """A solver for points of H = ``horizon`` time steps of actions, time first, which noise may depend on."""
        return self.replace(horizon=horizon) if "horizon" in self.options else self

    def with_generator(self: Same, generator: torch.Generator) -> Same:
        """A solver that draws all noise from this generator."""
        return self.replace(generator=generator)

    @property
    def num_evaluations(self) -> int:
        """Candidates of all iterations, for each problem."""
        return sum(candidates_per_iteration(self.options["num_candidates"], self.options["num_iterations"]))

    def extra_repr(self) -> str:
        """The options that differ from the defaults."""
        changed = {name: value for name, value in self.options.items() if _differs(value, self.defaults[name])}
        return ", ".join(f"{name}={value}" for name, value in changed.items())


def _learned(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Parameters and modules among options, and among the fields of such parts as a weighting."""
    for name, value in options.items():
        if isinstance(value, (nn.Parameter, nn.Module)):
            yield name, value
        elif is_dataclass(value):
            own = {f"{name}_{field.name}": getattr(value, field.name) for field in fields(value)}
            yield from _learned(own)


def _as_registered(name: str, value: Any, learned: nn.Module) -> Any:
    """An option, with what `_learned` finds in it read from where it is registered."""
    if isinstance(value, (nn.Parameter, nn.Module)):
        return getattr(learned, name)
    own = [field.name for field in fields(value)] if is_dataclass(value) else []
    now = {field: _as_registered(f"{name}_{field}", getattr(value, field), learned) for field in own}
    changed = {field: each for field, each in now.items() if each is not getattr(value, field)}
    if not changed:
        return value
    copied = copy(value)
    for field, each in changed.items():
        object.__setattr__(copied, field, each)  # also where it is frozen
    return copied


def _differs(value: Any, default: Any) -> bool:
    try:
        return isinstance(value, Tensor) or bool(value != default)
    except RuntimeError:  # a tensor inside, with a number for each problem
        return True
