"""Pictures of decoded sequences."""

from __future__ import annotations

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor


def draw_sequences(axis: Axes, sequences: Float[Tensor, "samples steps"]) -> None:
    """Sequences against the step, counted from 1, as transparent black lines."""
    count = sequences.shape[1]
    axis.plot(range(1, count + 1), sequences.float().T.cpu().numpy(), color="black", alpha=0.1, linewidth=0.8)
    axis.set(xlim=(1, max(count, 2)), xticks=(1, *range(5, count + 1, 5)))
