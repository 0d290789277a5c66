"""``lit-dcem figure N``: from runs, or from the checkpoints we ship."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from lit_dcem.cartpole.figures import curves as cartpole_curves
from lit_dcem.cartpole.figures import gradient as cartpole_gradient
from lit_dcem.cartpole.figures import search as cartpole
from lit_dcem.cartpole.module import CartpoleEmbedding
from lit_dcem.cartpole.pca import PCAPlanner
from lit_dcem.cartpole.planners import FullSpacePlanner
from lit_dcem.cartpole.states import validation_states
from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.files.replacing import check_writable, open_replacing
from lit_dcem.planet.figures import curves as planet_curves
from lit_dcem.planet.figures import sources as planet_sources
from lit_dcem.regression import figures as regression
from lit_dcem.regression.module import EnergyRegression
from lit_dcem.solvers.cem import DCEM
from lit_dcem.training.figure_source import Source, find_paths, table_of
from lit_dcem.training.runs import checkpoint_of, history, load_module


def draw(number: str, runs: Sequence[str] | None = None, out: str | None = None) -> Path:
    """Draw a figure of the paper into an image file, and return its path.

    Args:
        number: 1 to 15 of the paper, or one of ours by name: gradient.
        runs: what it is drawn from; the shipped files if there are none. Figures 1, 5 and 6: run folders or
            checkpoints of `EnergyRegression`. Figure 2: one of `CartpoleEmbedding`. Figure 10: several of those, and
            ``.pt`` files of a `PCAPlanner`. Figures 8, 9 and gradient: folders of sweeps, or their CSV files. Figure 4:
            JSON files that ``lit-dcem evaluate --out`` wrote for checkpoints of PlaNet; those of one task and
            controller are pooled. Figures 11, 12 and 13: run folders of `PlanetPhase1`, `PlanetPhase2` and
            `PlanetPhase3`, or their TensorBoard event files. Figures 14 and 15: one run folder or checkpoint of
            `PlanetPhase2` or `PlanetPhase3`, in any task. Figures 3 and 7: none.
        out: image file, of a type that matplotlib writes; ``figureN.png`` if there is none.

    Raises:
        UsageError: a run or file that cannot be used, or an image file that cannot be written.
        NothingShippedError: no runs, and no shipped files for this figure.
    """
    if number not in FIGURES:
        raise UsageError(f"A figure must be one of {', '.join(FIGURES)}, got {number}.")
    source = FIGURES[number]
    paths = find_paths(number, source, runs)
    target = Path(out or f"figure{number}.png")
    kind = target.suffix.lstrip(".")
    if kind not in FigureCanvasBase.get_supported_filetypes():
        raise UsageError(f"--out must end like an image file (.png, .pdf, .svg), got {target}.")
    check_writable(target, "--out")
    figure = source.figure(number, paths)
    with open_replacing(target, "wb") as file:
        figure.savefig(file, format=kind, dpi=150)
    return target


def _regression(number: str, paths: Sequence[Path]) -> Figure:
    methods: dict[str, list[EnergyRegression]] = {}
    paths_of: dict[str, list[Path]] = {}
    for path in paths:
        module = load_module(path)
        if not isinstance(module, EnergyRegression):
            raise UsageError(f"Figure {number} needs runs of EnergyRegression, got {type(module).__name__} in {path}.")
        name = "DCEM" if isinstance(module.solver, DCEM) else "unrolled GD"
        methods.setdefault(name, []).append(module)
        paths_of.setdefault(name, []).append(path)
    if number == "1":
        return regression.energy_surfaces(methods)
    if number == "6":
        return regression.predictions(methods)
    curves = {name: [history(read_checkpoint(path)) for path in paths] for name, paths in paths_of.items()}
    return regression.learning_curves(methods, curves)


def _search_iterations(number: str, paths: Sequence[Path]) -> Figure:
    return cartpole.search_iterations(_embedding(number, paths[0]), validation_states()[STATE])


def _initial_outputs(number: str, paths: Sequence[Path]) -> Figure:
    return cartpole.initial_outputs()


def _learning_curves(number: str, paths: Sequence[Path]) -> Figure:
    read = partial(cartpole_curves.read_table, columns=cartpole_curves.CURVE_COLUMNS)
    return cartpole_curves.learning_curves(_rows(number, paths, read))


def _improvement_factors(number: str, paths: Sequence[Path]) -> Figure:
    read = partial(cartpole_curves.read_table, columns=cartpole_curves.RESULT_COLUMNS)
    return cartpole_curves.improvement_factors(_rows(number, paths, read))


def _gradient(number: str, paths: Sequence[Path]) -> Figure:
    return cartpole_gradient.search_costs(_rows(number, paths, cartpole_gradient.read_study))


def _rows(number: str, paths: Sequence[Path], read: Callable[[Path], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = [row for path in paths for row in read(path)]
    if not rows:
        raise UsageError(f"Figure {number} needs validated runs, got none in {', '.join(map(str, paths))}.")
    return rows


def _cost_surfaces(number: str, paths: Sequence[Path]) -> Figure:
    planners: dict[str, cartpole.Planner] = {}
    for path in paths:
        title, planner = _planner(number, path)
        planners[title if title not in planners else f"{title} ({len(planners) + 1})"] = planner
    return cartpole.cost_surfaces(planners, validation_states()[:6])


def _planner(number: str, path: Path) -> tuple[str, cartpole.Planner]:
    """What decodes the latent vectors of a file, and the title of its column."""
    if path.suffix == ".pt":
        return "PCA", PCAPlanner(FullSpacePlanner(DCEM()), weights=str(path))  # with weights it asks no expert
    module = _embedding(number, path)
    if module.decoder.latent_dim != 2:
        raise UsageError(f"Figure {number} needs a latent_dim of 2, got {module.decoder.latent_dim} in {path}.")
    solver = module.training_solver
    return f"temperature {solver.temperature:g}" if isinstance(solver, DCEM) else type(solver).__name__, module


def _embedding(number: str, path: Path) -> CartpoleEmbedding:
    module = load_module(path)
    if not isinstance(module, CartpoleEmbedding):
        raise UsageError(f"Figure {number} needs runs of CartpoleEmbedding, got {type(module).__name__} in {path}.")
    return module


def _controllers(task: str) -> list[str]:
    """Patterns of the shipped checkpoints that search a latent space in a task."""
    return [f"{task}_phase{phase}*.ckpt" for phase in (2, 3)]


STATE = 1
"""validation state of figure 2"""
EMBEDDINGS = ("cartpole_d2_0.ckpt", "cartpole_d2_tau0.1_0.ckpt", "cartpole_d2_tau0_0.ckpt")
FIGURES = {
    "1": Source(_regression, checkpoint_of, ["regression_*.ckpt"]),
    "2": Source(_search_iterations, checkpoint_of, EMBEDDINGS[:1], single=True),
    "3": Source(planet_sources.graphical_model),
    "4": Source(planet_sources.returns, Path, ["*_phase*_returns.json"]),
    "5": Source(_regression, checkpoint_of, ["regression_*.ckpt"]),
    "6": Source(_regression, checkpoint_of, ["regression_*.ckpt"]),
    "7": Source(_initial_outputs),
    "8": Source(_learning_curves, table_of("curves.csv"), ["sweep_cartpole_curves.csv"]),
    "9": Source(_improvement_factors, table_of("results.csv"), ["sweep_cartpole.csv"]),
    "10": Source(_cost_surfaces, checkpoint_of, ["cartpole_pca.pt", *EMBEDDINGS]),
    "11": Source(planet_sources.learning_curves, planet_curves.events_of, ["*_phase1_*.tfevents"]),
    "12": Source(planet_sources.learning_curves, planet_curves.events_of, ["*_phase2_*.tfevents"]),
    "13": Source(planet_sources.ppo_curves, planet_curves.events_of, ["*_phase3_*.tfevents"]),
    "14": Source(planet_sources.search_iterations, checkpoint_of, _controllers("cheetah"), single=True),
    "15": Source(planet_sources.search_iterations, checkpoint_of, _controllers("walker"), single=True),
    "gradient": Source(_gradient, table_of("results.csv"), ["sweep_cartpole_gradient.csv"]),
}
