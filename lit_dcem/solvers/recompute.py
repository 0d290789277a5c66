"""Gradient checkpointing of an iteration: recomputed in the backward pass with the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from lit_dcem.solvers.iteration import State, Step
from lit_dcem.solvers.ranking import is_free_to_look
from lit_dcem.solvers.types import Iteration


def recomputed(step: Step, state: State, noise: Tensor, generator: torch.Generator | None) -> tuple[State, Iteration]:
    """``step(state, noise)``, keeping only the result until the backward pass recomputes the rest.

    Random numbers that the objective draws from torch's global generators or from ``generator`` are reproduced. In
    eager mode on the CPU, the recomputed values are compared with the first ones.

    Raises:
        RuntimeError: in the backward pass, if the values differ.
    """
    if torch.compiler.is_compiling():
        return checkpoint(step, state, noise, use_reentrant=False)  # pyright: ignore[reportReturnType]
    before: list[Tensor] = []

    def run(state: State, noise: Tensor) -> tuple[State, Iteration]:
        result = step(state, noise)
        values = result[1].values.detach()
        if before:
            _require_same(before[0], values)
        else:
            before.append(values)
        return result

    start = None if generator is None else generator.get_state()

    def contexts():
        return nullcontext(), _rewound(generator, start)

    # An early stop would skip the comparison.
    with set_checkpoint_early_stop(False):
        return checkpoint(run, state, noise, use_reentrant=False, context_fn=contexts)  # pyright: ignore


@contextmanager
def _rewound(generator: torch.Generator | None, start: Tensor | None) -> Iterator[None]:
    """Rewind the generator to ``start``, and restore its present state afterwards."""
    if generator is None or start is None:
        yield
        return
    now = generator.get_state()
    generator.set_state(start)
    try:
        yield
    finally:
        generator.set_state(now)


def _require_same(before: Tensor, again: Tensor) -> None:
    if not is_free_to_look(again) or torch.allclose(before, again, equal_nan=True):
        return
    largest = (before - again).abs().nan_to_num().amax().item()
    rule = "checkpoint=True needs an objective that is deterministic, or draws from torch's or the solver's generator"
    raise RuntimeError(f"{rule}, got values that differ by up to {largest:.3g} when recomputed.")
