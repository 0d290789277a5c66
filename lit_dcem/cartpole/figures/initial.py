"""Figure 7: what untrained decoders put out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.embedding.decoder import ActionDecoder
from lit_dcem.embedding.drawing import draw_sequences
from lit_dcem.training.figure_source import figure

SCALES = (1, 2, 4, 6)
"""alpha: what the initial weights are multiplied by"""
ROWS: tuple[tuple[Literal["elu", "relu", "tanh"], str], ...] = (("elu", "ELU"), ("relu", "ReLU"), ("tanh", "tanh"))
"""activations and their names"""


@figure("7")
def initial_outputs_of_decoders(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 7, which is drawn from no files."""
    return initial_outputs()


def initial_outputs() -> Figure:
    """Figure 7: 100 outputs of an untrained decoder without biases, by activation and scale of the initial weights.

    The latent vectors are draws from N(0, I) in 2 dimensions (the paper does not give their number), the 20 outputs
    are squashed to [0, 1].
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(len(ROWS), len(SCALES), sharex=True, sharey=True)
    for row, (activation, name) in zip(axes, ROWS, strict=True):
        for axis, scale in zip(row, SCALES, strict=True):
            draw_sequences(axis, _untrained_outputs(activation, scale))
        row[0].set(ylabel=f"{name}\noutput", ylim=(0, 1))
    for axis, scale in zip(axes[0], SCALES, strict=True):
        axis.set_title(f"$\\alpha$ = {scale}")
    for axis in axes[-1]:
        axis.set_xlabel("output dimension")
    return figure


def _untrained_outputs(activation: Literal["elu", "relu", "tanh"], scale: float) -> Float[Tensor, "100 20"]:
    with isolate_rng(), torch.no_grad():  # torch's layers draw their first weights from the global generator
        torch.manual_seed(0)  # the same draws in every panel
        decoder = ActionDecoder(2, 20, activation=activation, init_scale=scale, bias=False, lower=0, upper=1)
        return decoder(torch.randn(100, 2)).squeeze(-1)
