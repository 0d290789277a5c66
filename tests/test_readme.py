"""What the README shows works, names files that exist, and has the numbers of the data behind it."""

import csv
import re
from pathlib import Path
from statistics import fmean

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PLANNING = re.findall(r"```python\n(.*?)```", (ROOT / "docs/planning.md").read_text(), re.DOTALL)
ALGORITHMS = {
    "MR.Q": "mrq",
    "SimbaV2, one update a step": "simbaV2_utd1",
    "SimbaV2, two updates a step": "simbaV2_utd2",
    "BRO, ten updates a step": "bro_utd10",
    "TD-MPC": "tdmpc",
    "TD-MPC2": "tdmpc2",
    "SAC": "sac",
    "DreamerV3": "dreamerv3",
}
COLUMNS = [(task, steps) for task in ("cheetah-run", "walker-walk", "cartpole-swingup") for steps in (100_000, 200_000)]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_code_runs(code, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")  # without a display dm_control warns when it is imported
    exec(code, {})


def test_code_of_the_guide_to_planning_runs():
    torch.manual_seed(0)
    exec("".join(PLANNING), {})


def test_code_is_there():
    assert PYTHON and PLANNING


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/planning.md",
        "docs/adapters.md",
        "docs/solvers.md",
        "docs/results.md",
        "docs/data/README.md",
        "checkpoints/README.md",
        "CONTRIBUTING.md",
    ],
)
def test_links_and_configs_exist(document):
    path = ROOT / document
    text = path.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert all((path.parent / link).exists() for link in links), links
    configs = re.findall(r"configs/\w+\.yaml", text)
    assert all((ROOT / config).exists() for config in configs), configs


@pytest.fixture(scope="module")
def returns():
    """Of each algorithm, task and number of simulator steps: those of its seeds."""
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    with (ROOT / "docs/data/dmc_state.csv").open() as file:
        for row in csv.DictReader(file):
            point = row["algorithm"], row["task"], int(row["simulator_steps"])
            assert row["seed"] not in found.setdefault(point, {})
            found[point][row["seed"]] = float(row["return"])
    return found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_comparison_is_that_of_the_data(name, returns):
    line = next(line for line in README.splitlines() if line.startswith(f"| {name} ("))
    label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    points = [returns[(ALGORITHMS[name], *column)] for column in COLUMNS]
    assert [cell.strip("*") for cell in cells] == [f"{fmean(seeds.values()):.0f}" for seeds in points]
    most = max(len(seeds) for seeds in points)
    assert f"({most} seeds" in label
    fewer = [column for column, seeds in zip(COLUMNS, points, strict=True) if len(seeds) < most]
    assert len(re.findall(r"; (\d+) of ", label)) == len(fewer)


def test_best_of_each_column_is_bold(returns):
    rows = [
        line.strip("|").split("|")
        for line in README.splitlines()
        if line.startswith(tuple(f"| {n} (" for n in ALGORITHMS))
    ]
    for column in zip(*(row[1:] for row in rows), strict=True):
        cells = [cell.strip() for cell in column]
        best = max(cells, key=lambda cell: float(cell.strip("*")))
        assert [cell for cell in cells if "*" in cell] == [best]
