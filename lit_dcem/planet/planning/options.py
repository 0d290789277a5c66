"""The options that all planners in a world model share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from lit_dcem.planet.planning.precision import PRECISIONS, Precision
from lit_dcem.solvers.search import Answer


@dataclass(frozen=True)
class PlannerOptions:
    """How a planner searches, whatever it searches over.

    With ``warm_start`` a search begins where the last one ended, one step later (iCEM, arXiv 2008.06389, section 3.3):
    its first mean is the last one, advanced by a step, and the best point found last time is one of the candidates.

    Args:
        answer: act by the "mean" of the last distribution (paper), or by the "best" candidate evaluated.
        warm_start: begin with the last plan; by default every search begins from zero (paper).
        keep_plans: follow the rest of the last plan until a new plan has a higher predicted return; by default every
            step follows a new plan (paper). Comparing the two costs a few trajectories. It stops a loop of searches
            from postponing what pays off late.
        sample: imagine with samples of the model's priors (PlaNet's code); with False, with their means, which is a
            little faster.
        precision: of imagination. "float32" is the model's own precision. "bfloat16" is about twice as fast on
            processors with instructions for it, and about 9 times slower on others. "auto" picks the faster one for
            the model's device, but float32 where the model takes gradients. Beliefs and the search itself stay in
            float32.
        compile: compile imagination with `torch.compile`, on a GPU with CUDA graphs. The first plan takes half a
            minute longer.
        known_reward: plan for this reward of the observation after an action, as the model predicts it in the
            environment's units, and of the action: ``(observation [..., O], action [..., A]) -> reward [...]``. In a
            config it is a path, such as ``my_rewards.speed``. By default plans are for the reward that the model has
            learned. A value still counts the environment's own rewards.

    Raises:
        ValueError: an option that is not one of its choices.
    """

    answer: Answer = "mean"
    warm_start: bool = False
    keep_plans: bool = False
    sample: bool = True
    precision: Precision = "auto"
    compile: bool = False
    known_reward: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        for name, choices in (("answer", get_args(Answer)), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)}.")
        for name in ("warm_start", "keep_plans", "sample", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)}.")
        if not (self.known_reward is None or callable(self.known_reward)):
            raise ValueError(f"known_reward must be a function of observations and actions, got {self.known_reward}.")
