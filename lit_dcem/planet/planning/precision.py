"""The precision in which a planner imagines, and copies of models in that precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.solvers.ranking import is_free_to_look
from lit_dcem.training.bfloat16 import multiplies_bfloat16_faster, warn_if_slow

Precision = Literal["auto", "float32", "bfloat16"]
Model = TypeVar("Model", bound=nn.Module)
PRECISIONS = ("auto", "float32", "bfloat16")


def dtype_for(model: WorldModel, precision: Precision, frozen: bool) -> torch.dtype:
    """What to imagine in. A model in another precision is a copy, and no gradient passes through it."""
    weight = model.rssm.recurrent.weight
    if precision == "auto" and not frozen and torch.is_grad_enabled() and _learns(model):
        return weight.dtype
    return imagination_dtype(precision, weight.dtype, weight.device)


def _learns(model: WorldModel) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


def imagination_dtype(precision: Precision, own: torch.dtype, device: torch.device) -> torch.dtype:
    """What to imagine in; warns once if bfloat16 is asked for on a processor where it is slow.

    Args:
        precision: "auto" is bfloat16 for a model in float32 on a processor that multiplies bfloat16 faster, and
            otherwise the model's own precision; "float32" is the model's own precision, too.
        own: precision of the model.
        device: of the model.
    """
    if precision == "bfloat16":
        warn_if_slow(device)
        return torch.bfloat16
    if precision == "auto" and own == torch.float32 and multiplies_bfloat16_faster(device):
        return torch.bfloat16
    return own


class ModelCopies(Generic[Model]):
    """Copies of a model in other precisions, which are not submodules of the module that holds them."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._copies: dict[tuple[torch.dtype, torch.device], Model] = {}
        self._versions: dict[Tensor, tuple[int, int]] = {}

    def of(self, model: Model, dtype: torch.dtype) -> Model:
        """A copy with the current weights of the model, which takes no gradients.

        It has the structure and the options that the model had when it was first asked for; another model has its own.
        """
        if self._model is not model:
            self._model, self._copies, self._versions = model, {}, {}
        key = dtype, next(model.parameters()).device
        with torch.inference_mode(False), torch.no_grad():  # a copy made while acting also serves in training
            if key not in self._copies:
                self._copies[key] = copy.deepcopy(model).to(dtype).requires_grad_(False)
            for theirs, ours in zip(_tensors(self._copies[key]), _tensors(model), strict=True):
                self._refresh(theirs, ours)
        return self._copies[key]

    def _refresh(self, theirs: Tensor, ours: Tensor) -> None:
        """Copy a tensor, noticeably to a pending backward pass, which may hold it, only if it has changed."""
        if is_free_to_look(ours):
            if not torch.equal(theirs, ours.to(theirs.dtype)):
                theirs.copy_(ours)
            return
        # A look at the numbers would wait for the accelerator. Versions do not tell of writes to ``.data``.
        version = ours.data_ptr(), -1 if ours.is_inference() else ours._version
        (theirs if self._versions.get(theirs) != version else theirs.data).copy_(ours)
        self._versions[theirs] = version


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())
