"""What a module hands to its data: the policies that act there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lit_dcem.envs.policy import Policy, SeedablePolicy
from lit_dcem.planet.data.trajectories import Trajectories
from lit_dcem.planet.data.transitions import Transitions

Prepare = Callable[[Trajectories], Transitions]
"""makes what updates learn from out of trajectories"""


@dataclass(frozen=True)
class Policies:
    """The policies of a module, for `EnvironmentData.connect`: each kind of data uses those that it needs."""

    acting: SeedablePolicy
    """acts in evaluations; in `Rollouts` also between updates"""
    seeding: Policy | None = None
    """acts in the seed episodes of `Rollouts`; without it their actions are uniform"""
    exploring: SeedablePolicy | None = None
    """the stochastic policy that `OnPolicyRollouts` collect trajectories of"""
    prepare: Prepare | None = None
    """makes the batches of `OnPolicyRollouts` out of these trajectories"""
