"""How each figure was made, and what makes it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_dcem.cli.sweep.grid import read_yaml
from lit_dcem.cli.sweep.phases import SEED
from lit_dcem.files.shipped import shipped

Content = dict[str, Any]
"""of a sweep file"""
SIZE = "model.init_args.decoder.init_args.latent_dim"
TEMPERATURE = "model.init_args.training_solver.init_args.temperature"


@dataclass(frozen=True)
class Study:
    """Runs that figures are drawn from, as a sweep in a folder of its own, which several figures share."""

    folder: str
    content: Callable[[], Content]


@dataclass(frozen=True)
class Recipe:
    """What a figure is drawn from, and what that cost when the shipped files were made."""

    shows: str
    studies: Sequence[Study] = ()
    draws: str = ""
    """what of each run: its checkpoint, "last" or "best"; "logs"; "returns" of its evaluation; or the "table" of all"""
    phase: int | None = None
    """of the runs that are drawn, where runs are phases; None for all"""
    extra: Sequence[str] = ()
    """shipped files that are drawn, too"""
    data: str = "none"
    seeds: str = "none"
    time: str = "seconds"
    """of the shipped runs"""
    hardware: str = "any"
    commit: str = "any"
    remark: str = ""
    quick: str = ""
    """`QUICK` of what ``reproduce N --quick`` does in an empty folder, measured once"""


def _regression(config: str, *seeds: int) -> Study:
    content = {"configs": [f"{config}.yaml"], "metric": "val/mse", "grid": {SEED: list(seeds)}}
    return Study(config, lambda: content)


def _cartpole(**grid: list[Any]) -> Study:
    """A part of the ablation; the whole one by default."""
    names = {"sizes": SIZE, "temperatures": TEMPERATURE, "seeds": SEED}
    chosen = {names[name]: values for name, values in grid.items()}

    def content() -> Content:
        whole = read_yaml(shipped("configs") / "sweep_cartpole.yaml")
        return {**whole, "grid": {**whole["grid"], **chosen}}

    return Study("sweep_cartpole", content)


def _planet(task: str, phases: int | None = None, evaluated: bool = False, seeds: Sequence[int] = (0,)) -> Study:
    """The first phases of a task; all by default."""

    def content() -> Content:
        whole = read_yaml(shipped("configs") / "sweep_planet.yaml")
        evaluation = {"evaluation": whole.pop("evaluation")} if evaluated else {}
        chains = {task: whole["chains"][task][:phases]}
        return {**whole, "chains": chains, "grid": {SEED: list(seeds)}, "evaluation": {}, **evaluation}

    return Study(task, content)


CHEETAH, WALKER, SWINGUP = "cheetah-run", "walker-walk", "cartpole-swingup"
XEON, XEON_CORE = (f"{cores} of an Intel Xeon (Sapphire Rapids), no GPU" for cores in ("2 cores", "1 core"))
EPYC_CORE = "1 core of an AMD EPYC, shared with other work, no GPU"
QUICK = "processor time on an AMD EPYC with AVX2, no GPU (commit f976f73)"
QUICK_ALL = "12 min there, and took 6 min 18 s on one core with AVX-512 (commit 4182ac1)"
REGRESSION: dict[str, Any] = {
    "draws": "last",
    "data": "100 points of y = x sin x",
    "hardware": XEON,
    "commit": "a47b5ae",
}
CARTPOLE: dict[str, Any] = {
    "data": "states of the cartpole, drawn as in the paper; 100 for validation",
    "commit": "949b4a8",
}
CHEETAH_TIME = "cheetah: 91 min for phase 1; 105 min for 7,000 of 10,300 updates of phase 2"
WALKER_TIME = "walker: 81 min for half of phase 1; 90 min for 5,000 of 15,400 updates of phase 2"
SWINGUP_1 = "a seed of the swing-up: 25 to 31 min for phase 1 (seed 0: 69 at half a core)"
SWINGUP_2 = f"{SWINGUP_1}, 26 to 28 for phase 2"
SWINGUP_3 = f"{SWINGUP_2}, 49 to 59 for phase 3"
SWINGUP_COMMIT = "swing-up f1b617d"
SEEDS = (0, 1, 2)
SEEDS_SHOWN = f"0; swing-up {', '.join(map(str, SEEDS))}"
EPYC_512 = "1 core of an AMD EPYC with AVX-512, shared with other work, no GPU"
CHEETAH_COMMIT, WALKER_COMMIT = "cheetah 5740608, 07ec979", "walker 371f16c, 0026189"
SUITE = {CHEETAH: "cheetah.run", WALKER: "walker.walk", SWINGUP: "cartpole.swingup"}
STOPPED = "was stopped by hand; the command trains it to its end."
CHEETAH_STOPPED, WALKER_STOPPED = f"Phase 2 of the cheetah {STOPPED}", f"Each run of the walker {STOPPED}"
XEON_PHASE1 = "Phase 1 of cheetah and walker ran on the Intel Xeon."
REPLAY = "Phase 2 of cheetah and walker began without the replay of phase 1, which the command gives it."


def _from_state(*tasks: str) -> str:
    return f"{', '.join(SUITE[task] for task in tasks)} of dm_control, from the state"


RECIPES: Mapping[str, Recipe] = {
    "1": Recipe(
        "energies learned through unrolled gradient descent and DCEM",
        [_regression("regression", 0), _regression("regression_gd", 0)],
        **REGRESSION, seeds="0", time="4 min",
        quick="34 s",
    ),
    "2": Recipe(
        "iterations of a search over forces, and over a latent space",
        [_cartpole(sizes=[2], temperatures=[1.0], seeds=[0])],
        **CARTPOLE, draws="best", seeds="0", time="4 min", hardware=XEON_CORE,
        quick="26 s",
    ),
    "3": Recipe("the graphical model, drawn from the code", quick="10 s"),
    "4": Recipe(
        "returns of PlaNet's controllers",
        [_planet(task, evaluated=True, seeds=SEEDS if task == SWINGUP else (0,)) for task in SUITE],
        draws="returns", data=f"{_from_state(*SUITE)}; 100 episodes of each controller and seed", seeds=SEEDS_SHOWN,
        time=f"{CHEETAH_TIME}; {WALKER_TIME}; {SWINGUP_3}; evaluations not timed",
        hardware=f"{EPYC_CORE}; swing-up {EPYC_512}", commit=f"{CHEETAH_COMMIT}; {WALKER_COMMIT}; {SWINGUP_COMMIT}",
        remark=f"{CHEETAH_STOPPED} {WALKER_STOPPED} {REPLAY} "
        "Phase 3 shows no gain on cheetah and walker. "
        "Their boxes of DCEM have commands of their own (results/planet.md).",
        quick="6 min",
    ),
    "5": Recipe(
        "learning curves of the regression, and error against inner iterations",
        [_regression("regression", 0, 1, 2), _regression("regression_gd", 0, 1, 2)],
        **REGRESSION, seeds="0, 1, 2", time="13 min",
        quick="34 s",
    ),
    "6": Recipe(
        "predictions after 1 to 30 inner iterations",
        [_regression("regression", 0), _regression("regression_gd", 0)],
        **REGRESSION, seeds="0", time="4 min, shared with figure 1",
        quick="34 s",
    ),
    "7": Recipe("outputs of untrained decoders", quick="11 s"),
    "8": Recipe(
        "learning curves of the cartpole's ablation",
        [_cartpole()],
        **CARTPOLE, draws="table", seeds="0, 1, 2", time="49 min", hardware=XEON,
        quick="2.2 min",
    ),
    "9": Recipe(
        "improvement over the expert, by latent size and temperature",
        [_cartpole()],
        **CARTPOLE, draws="table", seeds="0, 1, 2", time="49 min, shared with figure 8", hardware=XEON,
        quick="2.2 min",
    ),
    "10": Recipe(
        "cost surfaces over latent spaces of two dimensions",
        [_cartpole(sizes=[2], seeds=[0])],
        **CARTPOLE, draws="best", extra=["cartpole_pca.pt"], seeds="0", time="9 min", hardware=XEON_CORE,
        remark="The PCA is the shipped one.",
        quick="1 min",
    ),
    "11": Recipe(
        "learning curves of phase 1",
        [_planet(CHEETAH, 1), _planet(WALKER, 1), _planet(SWINGUP, 1, seeds=SEEDS)],
        draws="logs", phase=1, data=_from_state(*SUITE), seeds=SEEDS_SHOWN,
        time=f"cheetah 91 min; walker 81 min for half of it; {SWINGUP_1}",
        hardware=f"{XEON_CORE}; swing-up {EPYC_512}",
        commit=f"cheetah 5740608; walker 371f16c; {SWINGUP_COMMIT}",
        remark=f"The run of the walker {STOPPED}",
        quick="40 s with AVX-512",
    ),
    "12": Recipe(
        "learning curves of phase 2",
        [_planet(CHEETAH, 2), _planet(WALKER, 2), _planet(SWINGUP, 2, seeds=SEEDS)],
        draws="logs", phase=2, data=_from_state(*SUITE), seeds=SEEDS_SHOWN,
        time=f"{CHEETAH_TIME}; {WALKER_TIME}; {SWINGUP_2}",
        hardware=f"{EPYC_CORE}; swing-up {EPYC_512}", commit=f"{CHEETAH_COMMIT}; {WALKER_COMMIT}; {SWINGUP_COMMIT}",
        remark=f"{CHEETAH_STOPPED} {WALKER_STOPPED} {REPLAY} {XEON_PHASE1}",
        quick="2.5 min",
    ),
    "13": Recipe(
        "returns of phase 3 against steps of PPO",
        [_planet(SWINGUP, seeds=SEEDS)],
        draws="logs", phase=3, data=_from_state(SWINGUP), seeds="0, 1, 2",
        time=SWINGUP_3, hardware=EPYC_512, commit=SWINGUP_COMMIT,
        quick="63 s",
    ),
    "14": Recipe(
        "decoded candidates of a search on the cheetah",
        [_planet(CHEETAH, 2)],
        draws="best", phase=2, data=_from_state(CHEETAH), seeds="0",
        time=CHEETAH_TIME, hardware=EPYC_CORE, commit=CHEETAH_COMMIT, remark=f"{CHEETAH_STOPPED} {REPLAY}",
        quick="1 min",
    ),
    "15": Recipe(
        "decoded candidates of a search on the walker",
        [_planet(WALKER, 2)],
        draws="best", phase=2, data=_from_state(WALKER), seeds="0",
        time=WALKER_TIME, hardware=EPYC_CORE, commit=WALKER_COMMIT, remark=f"{WALKER_STOPPED} {REPLAY}",
        quick="68 s",
    ),
}  # fmt: skip
"""by the paper's numbers"""
