"""Which processors multiply bfloat16 fast."""

from __future__ import annotations

import platform
from functools import lru_cache

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn


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
