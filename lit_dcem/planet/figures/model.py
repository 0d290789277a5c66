"""Figure 3: the graphical model of PlaNet's world model, read off the gradients of its code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.rssm import RSSM
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.training.figure_source import figure


class Edge(NamedTuple):
    """One variable enters another: u action, h deterministic and x stochastic state, o observation, r reward."""

    source: str
    target: str
    delay: int = 0
    """time steps from the source to the target"""


class Structure(NamedTuple):
    """What the world model makes each variable from."""

    generation: frozenset[Edge]
    inference: frozenset[Edge]
    """of the posterior"""


class CutRSSM(RSSM):
    """Takes each new h as given: what comes after has a gradient there, and further back only if it reads past it."""

    made: Tensor
    """the last h ``[*, deter_dim]``, and its way back"""
    given: Tensor
    """the same without one"""

    def _recur(self, deter: Tensor, inputs: Tensor) -> Tensor:
        self.made = super()._recur(deter, inputs)
        self.given = self.made.detach().requires_grad_()
        return self.given


def structure() -> Structure:
    """The edges of a small model with random weights: where an output has a gradient other than zero."""
    with isolate_rng():  # torch's layers draw their first weights from the global generator
        torch.manual_seed(0)
        model = WorldModel(4, 2, rssm={"deter_dim": 6, "stoch_dim": 3})
        rssm = CutRSSM(4, 2, 6, 3)
        h, x, u, o = (torch.randn(8, size, requires_grad=True) for size in (6, 3, 2, 4))
        past = {("h", 1): h, ("x", 1): x, ("u", 0): u, ("o", 0): o}
        _, prior = rssm.predict(Belief(h, x), u)
        generation = _into("h", [rssm.made], past) | _into("x", prior, {**past, ("h", 0): rssm.given})
        (posterior, _), _ = rssm.observe(Belief(h, x), u, o)
        inference = _into("h", [rssm.made], past) - generation
        inference |= _into("x", [posterior.stoch], {**past, ("h", 0): rssm.given})
        heads = {"o": model.observation(Belief(h, x)), "r": model.reward(Belief(h, x))}
        for name, output in heads.items():
            generation |= _into(name, [output], {("h", 0): h, ("x", 0): x})
    return Structure(generation, inference)


def _into(target: str, outputs: Iterable[Tensor], inputs: Mapping[tuple[str, int], Tensor]) -> frozenset[Edge]:
    total = torch.stack([output.sum() for output in outputs]).sum()
    gradients = torch.autograd.grad(total, list(inputs.values()), retain_graph=True, allow_unused=True)
    used = [gradient is not None and bool(gradient.any()) for gradient in gradients]
    return frozenset(Edge(name, target, delay) for (name, delay), uses in zip(inputs, used, strict=True) if uses)


PLACES = {"u": (0.0, 3.9), "h": (0.0, 2.6), "x": (0.0, 1.3), "o": (-0.8, 0.0), "r": (0.8, 0.0)}
"""of the nodes in a time slice"""
SLICES = ("t-1", "t", "t+1")
SPACING = 3.2
RADIUS = 0.3
GENERATION: dict[str, Any] = {"color": "black"}
INFERENCE: dict[str, Any] = {"color": "tab:red", "linestyle": "dashed"}
Nodes = Mapping[tuple[str, int], Patch]
"""by variable and time slice"""


@figure("3")
def graphical_model_of_the_code(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 3, which is drawn from no files."""
    return graphical_model()


def graphical_model() -> Figure:
    """Figure 3: three time slices from left to right, drawn from `structure`."""
    figure = Figure(figsize=(8, 4.7), layout="constrained")
    axis = figure.subplots()
    nodes = {(name, t): _node(axis, name, t) for t in range(len(SLICES)) for name in PLACES}
    generation, inference = structure()
    for t in range(len(SLICES)):
        for edge in sorted(generation):
            _arrow(axis, edge, t, nodes, GENERATION, _bend(edge))
        for edge in sorted(inference):
            _arrow(axis, edge, t, nodes, INFERENCE, bend=0.35)
    axis.set(xlim=(-1.2, (len(SLICES) - 1) * SPACING + 1.2), ylim=(-0.45, 4.35), aspect="equal")
    axis.set_axis_off()
    _legend(axis)
    return figure


def _place(name: str, t: int) -> tuple[float, float]:
    return PLACES[name][0] + t * SPACING, PLACES[name][1]


def _node(axis: Axes, name: str, t: int) -> Patch:
    """Squares are computed or chosen, circles drawn at random; what is seen or chosen is shaded."""
    x, y = _place(name, t)
    style = {"facecolor": "white" if name in "hx" else "lightgrey", "edgecolor": "black", "zorder": 2}
    square = Rectangle((x - RADIUS, y - RADIUS), 2 * RADIUS, 2 * RADIUS, **style)
    axis.text(x, y, f"${name}_{{{SLICES[t]}}}$", ha="center", va="center", fontsize=12, zorder=3)
    return axis.add_patch(square if name in "uh" else Circle((x, y), RADIUS, **style))


def _arrow(axis: Axes, edge: Edge, t: int, nodes: Nodes, style: Mapping[str, Any], bend: float) -> None:
    """Into time slice t, if it begins in one that is drawn."""
    source, target = (edge.source, t - edge.delay), (edge.target, t)
    if source in nodes:
        ends = {"patchA": nodes[source], "patchB": nodes[target], "shrinkA": 0, "shrinkB": 1}
        look = {"arrowstyle": "-|>", "mutation_scale": 14, "connectionstyle": f"arc3,rad={bend}", **style}
        axis.add_patch(FancyArrowPatch(_place(*source), _place(*target), **ends, **look))


def _bend(edge: Edge) -> float:
    """Out of the way of the row that an edge within a time slice passes."""
    (x0, y0), (x1, y1) = PLACES[edge.source], PLACES[edge.target]
    return math.copysign(0.3, x0 - x1) if edge.delay == 0 and y0 - y1 > 2 else 0.0


def _legend(axis: Axes) -> None:
    marks = {"color": "white", "markeredgecolor": "black", "markersize": 11}
    entries = [
        Line2D([], [], **marks, marker="s", label="deterministic"),
        Line2D([], [], **marks, marker="o", label="random"),
        Patch(facecolor="lightgrey", edgecolor="black", label="observed or chosen"),
        Line2D([], [], **GENERATION, label="generation"),
        Line2D([], [], **INFERENCE, label="inference"),
    ]
    axis.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(entries), frameon=False)
