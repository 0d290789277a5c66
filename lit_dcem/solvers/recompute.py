"""Gradient checkpointing of an iteration: recomputed in the backward pass with the same random numbers."""

from __future__ import annotations

from contextlib import nullcontext

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

    rewound = _Rewound(generator)

    def contexts():
        return nullcontext(), rewound

    # An early stop would skip the comparison.
    with set_checkpoint_early_stop(False):
        return checkpoint(run, state, noise, use_reentrant=False, context_fn=contexts)  # pyright: ignore


class _Rewound:
    """Rewinds the generator to its state of now, and restores the one it had; every backward pass enters it anew."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self._generator = generator
        self._start = None if generator is None else generator.get_state()
        self._found: list[Tensor] = []

    def __enter__(self) -> None:
        if self._generator is not None and self._start is not None:
            self._found.append(self._generator.get_state())
            self._generator.set_state(self._start)

    def __exit__(self, *_: object) -> None:
        if self._generator is not None:
            self._generator.set_state(self._found.pop())


def _require_same(before: Tensor, again: Tensor) -> None:
    if not is_free_to_look(again) or torch.allclose(before, again, equal_nan=True):
        return
    largest = (before - again).abs().nan_to_num().amax().item()
    rule = "checkpoint=True needs an objective that is deterministic, or draws from torch's or the solver's generator"
    raise RuntimeError(f"{rule}, got values that differ by up to {largest:.3g} when recomputed.")
