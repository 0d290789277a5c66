"""What a world model imagines of an episode, next to what happened in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lit_dcem.planet.data.evaluation_episodes import Evaluation
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel

CONTEXT = 20
"""steps of the episode that the model observes first"""
HORIZON = 60
"""steps that it then imagines"""
PANELS = (3, 4)
"""rows and columns: the reward, and the first numbers of the observation"""


class Imagined(NamedTuple):
    """Predictions for the H steps after the context, in the environment's units."""

    observations: Float[Tensor, "horizon observation"]
    rewards: Float[Tensor, " horizon"]


@torch.no_grad()
def imagine(model: WorldModel, evaluation: Evaluation, context: int) -> Imagined:
    """Observe ``context`` steps of the evaluation's first episode, then imagine the next ones from its actions alone.

    By means of posteriors and priors, so without noise. Belief 0 belongs to the first observation, which no action led
    to, so that ``context`` actions make ``context + 1`` beliefs.

    Args:
        model: predicts.
        evaluation: with an episode longer than the context.
        context: C, actions whose observations are seen.
    """
    weight = model.rssm.recurrent.weight
    actions, observations = evaluation.actions.to(weight), evaluation.observations[: context + 1].to(weight)
    seen = torch.cat([torch.zeros_like(actions[:1]), actions[:context]])
    noise = weight.new_zeros(context + 1, 1, model.rssm.stoch_dim)
    posteriors, _ = model.observe_sequence(seen.unsqueeze(1), observations.unsqueeze(1), noise=noise)
    start = Belief(*(part[-1] for part in posteriors.belief))
    beliefs = model.rssm.imagine(start, actions[context : context + HORIZON].unsqueeze(1), sample=False)
    predicted = model.observation(beliefs), model.reward(beliefs)
    return Imagined(*(part.squeeze(1).float().cpu() for part in predicted))


def imagined_rollout(model: WorldModel, evaluation: Evaluation) -> Figure:
    """Reward and some of the observation over an evaluation's first episode, real and imagined."""
    context = min(CONTEXT, len(evaluation.actions) // 2)
    imagined = imagine(model, evaluation, context)
    end = context + len(imagined.rewards)
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(*PANELS, sharex=True).flatten()
    # Reward t came with observation t + 1, so it is drawn one step later.
    _draw(panels[0], "reward", evaluation.rewards[:end], imagined.rewards, range(1, end + 1), context)
    for index, axis in enumerate(panels[1:]):
        if index < evaluation.observations.shape[1]:
            real, predicted = evaluation.observations[: end + 1, index], imagined.observations[:, index]
            _draw(axis, f"observation {index}", real, predicted, range(end + 1), context)
        else:
            axis.set_axis_off()
    panels[0].legend(fontsize="small")
    figure.supxlabel(f"agent steps; the model observes {context}, then imagines")
    return figure


def _draw(axis: Axes, title: str, real: Tensor, imagined: Tensor, times: range, context: int) -> None:
    axis.plot(times, real.float().cpu(), color="0.4", linewidth=1.2, label="real")
    axis.plot(times[-len(imagined) :], imagined, color="tab:red", linewidth=1.2, label="imagined")
    axis.axvline(context, color="0.7", linewidth=0.8, linestyle=":")
    axis.set_title(title, fontsize="small")
