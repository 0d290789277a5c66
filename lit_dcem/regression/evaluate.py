"""``lit-dcem evaluate`` for energy-based regression: the errors that a validation measures."""

from __future__ import annotations

import logging
import warnings

import pytorch_lightning as pl
from torch import nn

from lit_dcem.regression.data import RegressionData
from lit_dcem.regression.module import EnergyRegression
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.evaluating import Evaluator, Measured, Option, Rows

METRICS = {"validation": "val", "held-out": "test"}
"""what the errors over each set of points are logged as"""
ROWS: Rows = {
    "points": ("points", str),
    "mse": ("mean squared error", lambda value: f"{value:.3g}"),
    "mse_after": ("  after {} inner iterations", lambda value: f"{value:.3g}"),
}
OPTIONS = (
    Option(
        "points", str, "validation, the points trained on, or held-out, ten times as many in between", "validation",
        holds=METRICS.__contains__, rule=f"must be {' or '.join(METRICS)}",
    ),
)  # fmt: skip


def measure(checkpoint: Checkpoint | None, planner: nn.Module | None, points: str) -> Measured:
    """Mean squared errors of a checkpoint, with the solver that it was trained with and after n inner iterations.

    Args:
        checkpoint: of `EnergyRegression`.
        planner: None.
        points: "validation" or "held-out".

    Raises:
        UsageError: a checkpoint whose module or data cannot be rebuilt.
    """
    assert checkpoint is not None
    assert planner is None
    module = checkpoint.module()
    data = checkpoint.data(RegressionData) if checkpoint.config.data else RegressionData()  # early ones have no config
    stage = METRICS[points]
    metrics = _metrics(module, data, stage)
    after = {n: metrics[f"{stage}/mse_{n}"] for n in getattr(module, "validation_iterations", ())}
    report = {"points": points, "mse": metrics[f"{stage}/mse"], "mse_after": after}
    return {type(module).__name__: report}, None


def _metrics(module: pl.LightningModule, data: pl.LightningDataModule, stage: str) -> dict[str, float]:
    """What Lightning's loop logs, without its own words."""
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(does not have many workers|LeafSpec.* is deprecated)")
            trainer = pl.Trainer(
                logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                inference_mode=False, accelerator="cpu", devices=1,
            )  # fmt: skip
            loop = trainer.validate if stage == "val" else trainer.test
            return dict(loop(module, data, verbose=False)[0])
    finally:
        log.setLevel(level)


EVALUATOR = Evaluator(
    title="regression",
    subject="a checkpoint of EnergyRegression",
    modules=(EnergyRegression,),
    planners=(),
    examples=(),
    options=OPTIONS,
    rows=ROWS,
    measure=measure,
)
