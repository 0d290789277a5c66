"""Standard normal noise, white or coloured along time."""

from __future__ import annotations

import torch
from torch import Tensor


def coloured_noise(
    shape: tuple[int, int, int], exponent: float, horizon: int, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Noise ``[B, N, D]`` of unit variance with power spectrum ``1 / frequency ** exponent`` along time.

    D is ``horizon`` steps times the action size, time first. White for ``exponent=0``. Source: Timmer and Koenig 1995,
    as used in iCEM (Pinneri et al. 2020, section 3.1). The mean over the horizon is also random: frequency 0 has the
    power of the lowest frequency above it.
    """
    white = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    if exponent == 0:
        return white
    spectrum = torch.fft.rfft(white.unflatten(-1, (horizon, -1)), dim=-2)
    frequency = torch.arange(spectrum.shape[-2], dtype=like.dtype, device=like.device).clamp_min(1)
    scale = frequency.pow(-exponent / 2)
    # Each frequency but 0 (and the last, for an even horizon) stands for two terms of the full spectrum.
    count = torch.full_like(scale, 2)
    count[0] = 1
    if horizon % 2 == 0:
        count[-1] = 1
    scale = scale / ((count * scale.square()).sum() / horizon).sqrt()
    return torch.fft.irfft(spectrum * scale.unsqueeze(-1), n=horizon, dim=-2).flatten(-2)
