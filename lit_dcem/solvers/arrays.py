"""NumPy in place of torch where calls are most of the time: for few numbers on a CPU in eager mode.

A call to NumPy costs a third of one to torch, and autograd costs as much again. So what is called in every iteration
has a second implementation, an autograd function on arrays with a derivative in closed form. Everywhere else, and for
derivatives of a higher order, the plain one in torch is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lit_dcem.solvers.ranking import is_free_to_look

try:
    import numpy as np
except ImportError:  # optional for torch and for us
    np = None

_MOST_NUMBERS = 2**16
"""in a tensor; torch is faster for more"""
_DTYPES = (torch.float32, torch.float64)


def suits_arrays(tensor: Tensor) -> bool:
    """Whether NumPy may and should do the work: few numbers on a CPU, in eager mode, without ``torch.func``."""
    if np is None or not is_free_to_look(tensor) or tensor.numel() > _MOST_NUMBERS or tensor.dtype not in _DTYPES:
        return False
    is_transformed = torch._C._are_functorch_transforms_active()  # pyright: ignore[reportAttributeAccessIssue]
    return not is_transformed and forward_ad._current_level < 0


def must_use_torch(grads: Sequence[Tensor]) -> bool:
    """Whether a backward pass is itself differentiated or vectorized."""
    is_batched = torch._C._functorch.is_legacy_batchedtensor  # pyright: ignore[reportAttributeAccessIssue]
    return torch.is_grad_enabled() or any(is_batched(each) or not is_free_to_look(each) for each in grads)


def gradients_by_torch(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of the inputs of a function, which can be differentiated again; None for inputs that need none."""
    with torch.enable_grad():
        apart = [each.view_as(each) for each in inputs]  # as one may have been computed from another
        outputs = function(*apart)
    wanted = [each for each in apart if each.requires_grad]
    options = {"create_graph": torch.is_grad_enabled(), "allow_unused": True}
    found = iter(torch.autograd.grad(outputs, wanted, grads, **options))
    return [next(found) if each.requires_grad else None for each in apart]
