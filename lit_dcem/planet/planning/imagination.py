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
from lit_dcem.planet.planning.precision import ModelCopies, Precision, dtype_for
from lit_dcem.planet.planning.problem import Problem

Imagine = Callable[[Tensor, Tensor | None], Tensor]
"""``(actions [H, E, N, A], noise) -> returns [E, N]``"""


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

    def of(self, problem: Problem, value: ValueEnsemble | None, precision: Precision) -> Imagine:
        """What predicts returns from the beliefs of a problem; if it is frozen, with no gradient to model and value."""
        model, dtype = problem.model, dtype_for(problem.model, precision, problem.frozen)
        if problem.frozen or dtype != model.rssm.recurrent.weight.dtype:
            model = self._models.of(model, dtype)
            value = None if value is None else self._values.of(value, dtype)
        belief = Belief(*(part.unsqueeze(1).to(dtype) for part in problem.belief))

        def imagine(actions: Tensor, noise: Tensor | None) -> Tensor:
            return self._returns(model, belief, actions.to(dtype), None if noise is None else noise.to(dtype), value)

        return imagine


def imagined_returns(
    model: WorldModel,
    belief: Belief,
    actions: Float[Tensor, "horizon envs candidates action"],
    noise: Float[Tensor, "horizon some_envs candidates stoch_dim"] | None,
    value: ValueEnsemble | None = None,
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
    """
    # On a CPU, step by step is a quarter faster than all at once, since the beliefs of one step fit into the cache.
    step_by_step = actions.device.type == "cpu"
    return _returns(model, belief, actions, noise, step_by_step, value)


def _returns(
    model: WorldModel,
    belief: Belief,
    actions: Tensor,
    noise: Tensor | None,
    step_by_step: bool,
    value: ValueEnsemble | None = None,
) -> Float[Tensor, "envs candidates"]:
    ends = getattr(model, "termination_head", None) is not None  # people's own models may lack it
    heads = [model.reward, model.termination] if ends else [model.reward]
    if step_by_step:
        last, steps = belief, []
        for last in model.rssm.imagine_steps(belief, actions, noise):
            steps.append([head(last) for head in heads])
        predicted = [torch.stack(each) for each in zip(*steps, strict=True)]
    else:
        beliefs = model.rssm.imagine(belief, actions, sample=noise is not None, noise=noise)
        predicted, last = [head(beliefs) for head in heads], Belief(*(part[-1] for part in beliefs))
    rewards, *logits = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in predicted)
    if value is not None:
        after = value.weight * value.estimate(last)
        rewards = torch.cat([rewards[:-1], (rewards[-1] + after).unsqueeze(0)])
    return (rewards * survival(*logits) if logits else rewards).sum(0)


def survival(logits: Float[Tensor, " time *batch"]) -> Float[Tensor, " time *batch"]:
    """Probability that a task is not over before each step, from logits of the task being over after each step.

    ``survival_t = (1 - p_0) ... (1 - p_t-1)``, where p is the sigmoid of the logits; it is 1 at the first step. So the
    reward of the step that ends the task still counts, and no later one.
    """
    survived = F.logsigmoid(-logits).cumsum(0)
    return torch.cat([torch.zeros_like(survived[:1]), survived[:-1]]).exp()
