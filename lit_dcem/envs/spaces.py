"""Checks of Gymnasium's spaces, and the conversion of actions. Errors name the wrapper that helps."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box, Space

from lit_dcem.envs.simulation import LARGEST
from lit_dcem.errors import UsageError

BOUNDING = (
    "wrap it in gymnasium.wrappers.TransformAction with a Box that bounds the actions "
    "(ClipAction and RescaleAction do not)"
)


def observation_dim(space: Space | None, name: str) -> int:
    """Return O, the size of a flat observation.

    Raises:
        UsageError: the space is not a Box of at least one number, or its observations are images.
    """
    if not isinstance(space, Box):
        wrapper = "FlattenObservation" if space is not None and space.is_np_flattenable else "TransformObservation"
        rule = "The observations of an environment must be a Box"
        raise UsageError(f"{rule}, got {space} in {name}; wrap it in gymnasium.wrappers.{wrapper}.")
    if space.dtype == np.uint8 and len(space.shape) > 1:
        rule = "The observations of an environment must be states, since lit-dcem does not learn from images"
        help = "if these are not images, wrap it in gymnasium.wrappers.FlattenObservation"
        raise UsageError(f"{rule}, got {space} in {name}; {help}.")
    return _size(space, "observations", name)


class ActionBox:
    """A bounded Box of actions, of floats or integers.

    Each integer gets an equal share of the range, so ``lower`` and ``upper`` are half a step beyond the space's bounds.

    Args:
        space: action space of the environment.
        name: name of the environment, for errors.

    Raises:
        UsageError: the space is not a Box, is empty or has no finite bounds.
    """

    def __init__(self, space: Space | None, name: str) -> None:
        if not isinstance(space, Box):
            help = "wrap it in gymnasium.wrappers.TransformAction to give it a Box"
            raise UsageError(f"The actions of an environment must be a Box, got {space} in {name}; {help}.")
        if not (space.is_bounded() and (np.abs([space.low, space.high], dtype=np.float64) < LARGEST).all()):
            raise UsageError(
                f"The actions of an environment must have finite bounds, got {space} in {name}; {BOUNDING}."
            )
        _size(space, "actions", name)
        self._space = space
        self._whole = space.dtype is not None and space.dtype.kind in "iub"
        beyond = 0.5 if self._whole else 0.0
        self.lower = np.ravel(space.low).astype(np.float64) - beyond
        self.upper = np.ravel(space.high).astype(np.float64) + beyond

    def shaped(self, action: np.ndarray) -> np.ndarray:
        """Convert an action ``[A]`` between ``lower`` and ``upper`` to the shape and dtype of the space."""
        space, action = self._space, action.reshape(self._space.shape)
        if not self._whole:
            return action.astype(space.dtype)
        whole = np.floor(action + 0.5)
        # Compare as floats and convert only values between the bounds: floats do not hold the largest integers exactly.
        inside = (whole > space.low.astype(np.float64)) & (whole < space.high.astype(np.float64))
        ends = np.where(whole >= space.high.astype(np.float64), space.high, space.low)
        return np.where(inside, np.where(inside, whole, 0).astype(space.dtype), ends)


def _size(space: Box, kind: str, name: str) -> int:
    size = int(np.prod(space.shape))
    if size < 1:
        raise UsageError(f"The {kind} of an environment must have at least one number, got {space} in {name}.")
    return size
