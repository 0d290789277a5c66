"""The comparison with others has the numbers of the data behind it, wherever it stands."""

import csv
import re
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).parents[1]
TABLES = ["README.md", "docs/results/planet.md"]
"""where the comparison stands"""
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


def lines(document):
    return (ROOT / document).read_text().splitlines()


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


@pytest.mark.parametrize("document", TABLES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_comparison_is_that_of_the_data(name, document, returns):
    line = next(line for line in lines(document) if line.startswith(f"| {name} ("))
    label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    points = [returns[(ALGORITHMS[name], *column)] for column in COLUMNS]
    assert [cell.strip("*") for cell in cells] == [f"{fmean(seeds.values()):.0f}" for seeds in points]
    most = max(len(seeds) for seeds in points)
    assert f"({most} seeds" in label
    fewer = [column for column, seeds in zip(COLUMNS, points, strict=True) if len(seeds) < most]
    assert len(re.findall(r"; (\d+) of ", label)) == len(fewer)


@pytest.mark.parametrize("document", TABLES)
def test_best_of_each_column_is_bold(document):
    names = tuple(f"| {name} (" for name in ALGORITHMS)
    rows = [line.strip("|").split("|") for line in lines(document) if line.startswith(names)]
    for column in zip(*(row[1:] for row in rows), strict=True):
        cells = [cell.strip() for cell in column]
        best = max(cells, key=lambda cell: float(cell.strip("*")))
        assert [cell for cell in cells if "*" in cell] == [best]
