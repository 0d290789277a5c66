"""In which precision a planner imagines: in bfloat16 where the processor multiplies it faster; and copies in it."""

from __future__ import annotations

import copy
import platform
from functools import lru_cache
from typing import Literal

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from lit_dcem.models.world_model import WorldModel

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = ("auto", "float32", "bfloat16")


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


@lru_cache
def multiplies_bfloat16_faster(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16, and torch uses them."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _this_cpu_does()


def _this_cpu_does() -> bool:
    knows = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # not in builds without oneDNN, as for macOS
    if knows is None or not knows():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True  # on ARM, oneDNN has asked for the instructions
    # On x86, oneDNN says yes from AVX-512 on; without one of these it widens every number to float32 first.
    extensions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in extensions)


@lru_cache
def warn_if_slow(device: torch.device) -> None:
    """Say once what bfloat16 costs on a device that has no instructions for it."""
    if not multiplies_bfloat16_faster(device):
        rank_zero_warn(
            f"This processor ({device.type}) has no instructions for bfloat16: expect networks to be several times as "
            "slow as in float32 (9 times on x86 with AVX2). A planner has precision auto or float32 for that, the "
            "Trainer 32-true."
        )


class ModelCopies:
    """Copies of a model in some precisions, which are no part of the module that holds them."""

    def __init__(self) -> None:
        self._copies: dict[tuple[torch.dtype, torch.device], WorldModel] = {}

    def of(self, model: WorldModel, dtype: torch.dtype) -> WorldModel:
        """A copy of the model that has its weights of now and takes no gradients."""
        key = dtype, model.rssm.recurrent.weight.device
        with torch.inference_mode(False), torch.no_grad():  # made while acting, it also serves in training
            if key not in self._copies:
                self._copies[key] = copy.deepcopy(model).to(dtype).requires_grad_(False)
            for theirs, ours in zip(self._copies[key].parameters(), model.parameters(), strict=True):
                if not torch.equal(theirs, ours.to(dtype)):  # a graph that is not yet walked back may hold them
                    theirs.copy_(ours)
        return self._copies[key]
