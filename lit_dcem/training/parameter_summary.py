"""What a module consists of, before training."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.callbacks import ModelSummary
from rich.console import Console
from rich.table import Table


class ParameterSummary(ModelSummary):
    """Prints the parts of a module and their parameters.

    Lightning's own summary also counts FLOPs, of the forward pass of an example: without one it says 0.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        columns = {name.strip(): values for name, values in summary_data if name.strip() in ("Name", "Type", "Params")}
        table = Table(caption=f"{trainable_parameters:,} of {total_parameters:,} parameters learn, {model_size:.3g} MB")
        for name in columns:
            table.add_column(name, justify="right" if name == "Params" else "left")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        Console().print(table)
