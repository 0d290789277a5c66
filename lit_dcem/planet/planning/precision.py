"""In which precision a planner imagines: in bfloat16 where the processor multiplies it faster; and copies in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.training.bfloat16 import multiplies_bfloat16_faster, warn_if_slow

Precision = Literal["auto", "float32", "bfloat16"]
Model = TypeVar("Model", bound=nn.Module)
PRECISIONS = ("auto", "float32", "bfloat16")


def dtype_for(model: WorldModel, precision: Precision, frozen: bool) -> torch.dtype:
    """What to imagine in; a model in another precision is a copy, which no gradient gets through."""
    weight = model.rssm.recurrent.weight
    if precision == "auto" and not frozen and torch.is_grad_enabled() and _learns(model):
        return weight.dtype
    return imagination_dtype(precision, weight.dtype, weight.device)


def _learns(model: WorldModel) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


def imagination_dtype(precision: Precision, own: torch.dtype, device: torch.device) -> torch.dtype:
    """What to imagine in.

    Asked for bfloat16 where that is slow, it says so once, and does as it is told.

    Args:
        precision: "auto" is bfloat16 for a model in float32 on a processor that multiplies bfloat16 faster, else what
            the model has; "float32" is what the model has, too.
        own: what the model has.
        device: where the model is.
    """
    if precision == "bfloat16":
        warn_if_slow(device)
        return torch.bfloat16
    if precision == "auto" and own == torch.float32 and multiplies_bfloat16_faster(device):
        return torch.bfloat16
    return own


class ModelCopies(Generic[Model]):
    """Copies of a model in some precisions, which are no part of the module that holds them."""

    def __init__(self) -> None:
        self._copies: dict[tuple[torch.dtype, torch.device], Model] = {}

    def of(self, model: Model, dtype: torch.dtype) -> Model:
        """A copy of the model that has its weights of now and takes no gradients."""
        key = dtype, next(model.parameters()).device
        with torch.inference_mode(False), torch.no_grad():  # made while acting, it also serves in training
            if key not in self._copies:
                self._copies[key] = copy.deepcopy(model).to(dtype).requires_grad_(False)
            for theirs, ours in zip(_tensors(self._copies[key]), _tensors(model), strict=True):
                if not torch.equal(theirs, ours.to(dtype)):  # a graph that is not yet walked back may hold them
                    theirs.copy_(ours)
        return self._copies[key]


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())
