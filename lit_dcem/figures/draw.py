"""``lit-dcem figure N``: from runs, or from the checkpoints we ship."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from lit_dcem.checkpoint import read_checkpoint, shipped
from lit_dcem.data.cartpole import validation_states
from lit_dcem.errors import UsageError
from lit_dcem.experiments.cartpole_embedding import CartpoleEmbedding
from lit_dcem.experiments.energy_regression import EnergyRegression
from lit_dcem.figures import cartpole, cartpole_curves, planet_curves, planet_model, regression
from lit_dcem.planning.cartpole import FullSpacePlanner
from lit_dcem.planning.cartpole_pca import PCAPlanner
from lit_dcem.runs import checkpoint_of, history, load_module
from lit_dcem.solvers.cem import DCEM, OPTIONS


def draw(number: str, runs: Sequence[str] | None = None, out: str | None = None) -> Path:
    """Draw a figure of the paper into an image file, and return its path.

    Args:
        number: 1, 2, 3 or 5 to 11.
        runs: what it is drawn from; the shipped files if there are none. Figures 1, 5 and 6: run folders or
            checkpoints of `EnergyRegression`. Figure 2: one of `CartpoleEmbedding`. Figure 10: several of those, and
            ``.pt`` files of a `PCAPlanner`. Figures 8 and 9: folders of sweeps, or their CSV files. Figure 11: run
            folders of `PlanetPhase1`, or their TensorBoard event files. Figures 3 and 7: none.
        out: image file, of a type that matplotlib writes; ``figureN.png`` if there is none.

    Raises:
        UsageError: a run or file that cannot be used.
    """
    if number not in FIGURES:
        raise UsageError(f"A figure must be one of {', '.join(FIGURES)}, got {number}.")
    source = FIGURES[number]
    figure = source.figure(number, _paths(number, source, runs))
    target = Path(out or f"figure{number}.png")
    if target.suffix.lstrip(".") not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"--out must end like an image file (.png, .pdf, .svg), got {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target


def _paths(number: str, source: Source, runs: Sequence[str] | None) -> list[Path]:
    if source.find is None:
        if runs:
            raise UsageError(f"Figure {number} shows an untrained model and takes no --run, got {runs[0]}.")
        return []
    folder = shipped("checkpoints")
    paths = [path for pattern in source.shipped for path in sorted(folder.glob(pattern))]
    paths = [source.find(run) for run in runs] if runs else paths
    if not paths:
        raise UsageError(f"A figure needs --run or shipped checkpoints, got none in {folder}.")
    return paths


def _table_of(name: str) -> Callable[[str], Path]:
    """Finds a table in the folder of a sweep; a file is taken as it is."""
    return lambda run: Path(run) / name if Path(run).is_dir() else Path(run)


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
    if len(paths) > 1:
        raise UsageError(f"Figure {number} needs a single --run, got {len(paths)}.")
    return cartpole.search_iterations(_embedding(number, paths[0]), validation_states()[STATE])


def _initial_outputs(number: str, paths: Sequence[Path]) -> Figure:
    return cartpole.initial_outputs()


def _graphical_model(number: str, paths: Sequence[Path]) -> Figure:
    return planet_model.graphical_model()


def _learning_curves(number: str, paths: Sequence[Path]) -> Figure:
    return cartpole_curves.learning_curves(_rows(number, paths, cartpole_curves.CURVE_COLUMNS))


def _improvement_factors(number: str, paths: Sequence[Path]) -> Figure:
    return cartpole_curves.improvement_factors(_rows(number, paths, cartpole_curves.RESULT_COLUMNS))


def _rows(number: str, paths: Sequence[Path], columns: Sequence[str]) -> list[dict[str, float]]:
    rows = [row for path in paths for row in cartpole_curves.read_table(path, columns)]
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
    return f"temperature {module.training_solver.options.get('temperature', OPTIONS['temperature']):g}", module


def _embedding(number: str, path: Path) -> CartpoleEmbedding:
    module = load_module(path)
    if not isinstance(module, CartpoleEmbedding):
        raise UsageError(f"Figure {number} needs runs of CartpoleEmbedding, got {type(module).__name__} in {path}.")
    return module


def _phase1_curves(number: str, paths: Sequence[Path]) -> Figure:
    runs: dict[str, list[planet_curves.Run]] = {}
    for path in paths:
        runs.setdefault(planet_curves.name_of(path), []).append(planet_curves.read_run(path))
    return planet_curves.learning_curves(runs)


class Source(NamedTuple):
    """How a figure is drawn, and from what."""

    figure: Callable[[str, Sequence[Path]], Figure]
    find: Callable[[str], Path] | None = None
    """the file that stands for a --run; none if the figure takes no runs"""
    shipped: Sequence[str] = ()
    """names or patterns of the shipped files; those that are missing are left out"""


STATE = 1
"""validation state of figure 2"""
EMBEDDINGS = ("cartpole_d2_0.ckpt", "cartpole_d2_tau0.1_0.ckpt", "cartpole_d2_tau0_0.ckpt")
FIGURES = {
    "1": Source(_regression, checkpoint_of, ["regression_*.ckpt"]),
    "2": Source(_search_iterations, checkpoint_of, EMBEDDINGS[:1]),
    "3": Source(_graphical_model),
    "5": Source(_regression, checkpoint_of, ["regression_*.ckpt"]),
    "6": Source(_regression, checkpoint_of, ["regression_*.ckpt"]),
    "7": Source(_initial_outputs),
    "8": Source(_learning_curves, _table_of("curves.csv"), ["sweep_cartpole_curves.csv"]),
    "9": Source(_improvement_factors, _table_of("results.csv"), ["sweep_cartpole.csv"]),
    "10": Source(_cost_surfaces, checkpoint_of, ["cartpole_pca.pt", *EMBEDDINGS]),
    "11": Source(_phase1_curves, planet_curves.events_of, ["*_phase1_*.tfevents"]),
}
