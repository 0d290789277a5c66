"""A stand-in for an accelerator, which finds where a program would wait for one or mix devices.

Tensors on the device "meta" have shapes, types and gradients, and no values. What asks for a value fails in torch.
Whatever else would make a host wait for an accelerator, or fail there, fails in `watched`. (`FakeTensorMode` would keep
the name of the device "cuda", but a build of torch without CUDA ends the process where a gradient begins.)
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ACCELERATOR = torch.device("meta")
COPIES = ("aten::_to_copy", "aten::copy_")
WAITING = ("aten::_linalg_eigh",)
"""operations that wait for the accelerator, although meta tensors allow them: eigh reads whether it has converged"""
FROM_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
RESULTS = {}
"""kinds of results of operations on kinds of arguments, which take torch a millisecond to work out"""


class WaitsError(AssertionError):
    """The host would wait for the accelerator, or tensors of both meet."""


@contextmanager
def watched(*allowed):
    """Fail where the host would wait for the accelerator, except in operations that are allowed and do occur."""
    met = set()
    with _Operations(allowed, met), _Constructors(allowed, met):
        yield
    assert met == set(allowed)


def _refuse(what, name, allowed, met):
    if name not in allowed:
        raise WaitsError(f"{name} {what}")
    met.add(name)


class _Operations(TorchDispatchMode):
    """Looks at every operation on tensors, in backward passes, too."""

    def __init__(self, *exceptions):
        super().__init__()
        self.exceptions = exceptions

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs, given, name = kwargs or {}, [], operation._schema.name
        key = operation, _kind(args, given), _kind(tuple(kwargs.items()), given)
        here = [each for each in given if not _is_there(each)]
        is_mixed, is_there = 0 < len(here) < len(given), given and not here
        result = _remembered(key, args, kwargs) if is_there and _is_pure(operation) else operation(*args, **kwargs)
        if name in COPIES and (is_mixed or _is_there(result) == bool(here)):
            _refuse("copies between devices", name, *self.exceptions)
        if is_mixed and any(each.dim() for each in here):  # a scalar on the host is an argument of a kernel
            _refuse("mixes devices", name, *self.exceptions)
        if name in WAITING and is_there:
            _refuse("waits for the accelerator", name, *self.exceptions)
        return result


class _Constructors(TorchFunctionMode):
    """Looks at tensors that are made of numbers, which are copied from the host."""

    def __init__(self, *exceptions):
        super().__init__()
        self.exceptions = exceptions

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in FROM_NUMBERS and _is_there(result) and result is not args[0]:
            _refuse("copies numbers to the accelerator", f"torch.{function.__name__}", *self.exceptions)
        return result


def _is_there(tensor):
    return tensor.device.type == ACCELERATOR.type


def _is_pure(operation):
    schema = operation._schema
    return not schema.is_mutable and not any(each.alias_info for each in schema.returns)


def _remembered(key, args, kwargs):
    if key not in RESULTS:
        RESULTS[key] = _kind(key[0](*args, **kwargs), [])
    return _made(RESULTS[key])


def _kind(value, tensors):
    """What a result depends on: of a tensor all that there is to it on our accelerator. Lists the tensors, too."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, (list, tuple)):
        return tuple(_kind(each, tensors) for each in value)
    return type(value), value  # 1 and 1.0 are equal, but their results have different types


def _made(kind):
    """A new result of a kind."""
    if isinstance(kind[0], torch.Size):
        shape, stride, dtype, device = kind
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)
    return kind[1] if isinstance(kind[0], type) else tuple(map(_made, kind))
