"""Predicted returns of actions: the world model's rewards until the task ends, and a value after the horizon."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.options import PlannerOptions
from lit_dcem.planet.planning.precision import ModelCopies, dtype_for
from lit_dcem.planet.planning.problem import Problem

Imagine = Callable[[Tensor, Tensor | None], Tensor]
"""``(actions [H, E, N, A], noise) -> returns [E, N]``"""
Reward = Callable[[Tensor, Tensor], Tensor]
"""``(observation [..., O], action [..., A]) -> reward [...]``: of an action, and of the observation that it leads to"""


class Imagination:
    """Predicts returns for a planner, in any precision; its copies of models are not part of the planner's modules.

    Args:
        compile: compile it, on a GPU with CUDA graphs.
    """

    def __init__(self, compile: bool) -> None:
        # This mode uses CUDA graphs on a GPU; on a CPU it is the same as the default mode.
        compiled = {"mode": "reduce-overhead", "dynamic": False}
        self._returns = torch.compile(imagined_returns, **compiled) if compile else imagined_returns
        self._models: ModelCopies[WorldModel] = ModelCopies()
        self._values: ModelCopies[ValueEnsemble] = ModelCopies()

    def of(self, problem: Problem, value: ValueEnsemble | None, options: PlannerOptions) -> Imagine:
        """What predicts returns from the beliefs of a problem; if it is frozen, with no gradient to model and value."""
        model, dtype = problem.model, dtype_for(problem.model, options.precision, problem.frozen)
        if problem.frozen or dtype != model.rssm.recurrent.weight.dtype:
            model = self._models.of(model, dtype)
            value = None if value is None else self._values.of(value, dtype)
        belief = Belief(*(part.unsqueeze(1).to(dtype) for part in problem.belief))

        def imagine(actions: Tensor, noise: Tensor | None) -> Tensor:
            noise = None if noise is None else noise.to(dtype)
            return self._returns(model, belief, actions.to(dtype), noise, value, options.known_reward)

        return imagine


def imagined_returns(
    model: WorldModel,
    belief: Belief,
    actions: Float[Tensor, "horizon envs candidates action"],
    noise: Float[Tensor, "horizon some_envs candidates stoch_dim"] | None,
    value: ValueEnsemble | None = None,
    known_reward: Reward | None = None,
) -> Float[Tensor, "envs candidates"]:
    r"""Sums of the rewards that the model predicts for the actions, starting from beliefs ``[E, 1, size]``.

    With the probability p of the task being over and the weight w of the value V:

    .. math:: \sum_{t=1}^H q_t \hat r_t + q_H w V(h_H, x_H), \qquad q_t = \prod_{i=1}^{t-1} (1 - p_i)

    With noise, for each environment or one row for all, the stochastic states are samples; without noise they are
    means. If the model predicts termination, each reward is multiplied by the probability that the task is not over
    before it.

    With a value, its estimate at the last belief, times its weight, is added to the last reward, and so is multiplied
    by the same probability. (Where the task ends with the last step, the value itself should be 0.) Neither the rewards
    nor the value is discounted. With weight 0 the sum is that of the paper.

    A known reward takes the place of the learned one, see `predicted_reward`.
    """
    # On a CPU, step by step is a quarter faster than all at once, since the beliefs of one step fit into the cache.
    step_by_step = actions.device.type == "cpu"
    return _returns(model, belief, actions, noise, step_by_step, value, known_reward)


def _returns(
    model: WorldModel,
    belief: Belief,
    actions: Tensor,
    noise: Tensor | None,
    step_by_step: bool,
    value: ValueEnsemble | None = None,
    known_reward: Reward | None = None,
) -> Float[Tensor, "envs candidates"]:
    ends = getattr(model, "termination_head", None) is not None  # people's own models may lack it

    def predict(after: Belief, moves: Tensor) -> list[Tensor]:
        reward = predicted_reward(model, after, moves, known_reward)
        return [reward, model.termination(after)] if ends else [reward]

    if step_by_step:
        last, steps = belief, []
        for last, moves in zip(model.rssm.imagine_steps(belief, actions, noise), actions, strict=True):
            steps.append(predict(last, moves))
        predicted = [torch.stack(each) for each in zip(*steps, strict=True)]
    else:
        beliefs = model.rssm.imagine(belief, actions, sample=noise is not None, noise=noise)
        predicted, last = predict(beliefs, actions), Belief(*(part[-1] for part in beliefs))
    rewards, *logits = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in predicted)
    if value is not None:
        after = value.weight * value.estimate(last)
        rewards = torch.cat([rewards[:-1], (rewards[-1] + after).unsqueeze(0)])
    return (rewards * survival(*logits) if logits else rewards).sum(0)


def predicted_reward(
    model: WorldModel, after: Belief, actions: Float[Tensor, "*batch action"], known_reward: Reward | None = None
) -> Float[Tensor, "*batch"]:
    """The reward of actions that led to beliefs: the model's own, or a known one of the observations that it predicts.

    Raises:
        ValueError: a known reward that does not return one number for each action.
    """
    if known_reward is None:
        return model.reward(after)
    observations = model.observation(after)
    precise = torch.promote_types(observations.dtype, torch.float32)
    rewards = known_reward(observations.to(precise), actions.to(precise))
    if rewards.shape != actions.shape[:-1]:
        rule = "known_reward must return a number for each action"
        raise ValueError(f"{rule}, of shape {[*actions.shape[:-1]]}, got {[*rewards.shape]}.")
    return rewards


def survival(logits: Float[Tensor, " time *batch"]) -> Float[Tensor, " time *batch"]:
    """Probability that a task is not over before each step, from logits of the task being over after each step.

    ``survival_t = (1 - p_0) ... (1 - p_t-1)``, where p is the sigmoid of the logits; it is 1 at the first step. So the
    reward of the step that ends the task still counts, and no later one.
    """
    survived = F.logsigmoid(-logits).cumsum(0)
    return torch.cat([torch.zeros_like(survived[:1]), survived[:-1]]).exp()
