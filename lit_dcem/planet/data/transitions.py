"""What PPO learns from: steps of a policy, with all that an update needs to know of each."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Transitions(NamedTuple):
    """T steps of E environments. A named tuple, because Lightning moves those to devices."""

    deter: Float[Tensor, "time envs deter_dim"]
    """deterministic part of the belief that the action was chosen from"""
    stoch: Float[Tensor, "time envs stoch_dim"]
    """stochastic part of the same belief"""
    sample: Float[Tensor, "time envs action"]
    """the action as drawn, before it was clamped"""
    mean: Float[Tensor, "time envs action"]
    """of the Gaussian that it was drawn from"""
    std: Float[Tensor, "time envs action"]
    """of the same Gaussian"""
    log_density: Float[Tensor, "time envs"]
    """of the sample, under the policy that drew it"""
    returns: Float[Tensor, "time envs"]
    """targets of the value network"""
    advantages: Float[Tensor, "time envs"]
    """standardized"""
    counts: Bool[Tensor, "time envs"]
    """which steps to learn from"""
    rest: Float[Tensor, "time envs horizon action"] | None = None
    """what was left of the plan before, when this one was searched for; None if the planner does not remember plans"""
    rest_counts: Bool[Tensor, "time envs"] | None = None
    """where the plan before is of the same episode; None as above"""
    origin_deter: Float[Tensor, "time envs deter_dim"] | None = None
    """deterministic part of the belief that the plan was searched for from; None if no plan is ever kept"""
    origin_stoch: Float[Tensor, "time envs stoch_dim"] | None = None
    """stochastic part of the same belief; None as above"""
    age: Int[Tensor, "time envs"] | None = None
    """for how many decisions the plan has been kept, 0 for a new one; None as above"""

    @property
    def num_times(self) -> int:
        """T."""
        return len(self.counts)

    def at(self, times: Int[Tensor, " chosen"] | slice) -> Transitions:
        """Some steps of time, of all environments."""
        return Transitions(**{name: part[times] for name, part in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors by name, for a checkpoint; ``Transitions(**state)`` reverses it."""
        return {name: part for name, part in self._asdict().items() if part is not None}
