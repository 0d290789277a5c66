"""What a planner searches, in words."""

from __future__ import annotations

from lit_dcem.planet.planning.cem import CEMPlanner
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.solvers.cem import DCEM


def search_of(planner: ModelPlanner) -> str:
    """What a planner searches, and how, in words: "DCEM in a latent space"; at temperature 0, DCEM is CEM.

    This is how it acts; how its decoder has learned is another matter.
    """
    spaces = {CEMPlanner: "over actions", LatentPlanner: "in a latent space"}
    solver = type(planner.solver).__name__
    if isinstance(planner.solver, DCEM) and planner.solver.options["temperature"] == 0:
        solver = "CEM"
    return f"{solver} {spaces.get(type(planner), 'of ' + type(planner).__name__)}"
