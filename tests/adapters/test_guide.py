"""The guide to the adapters runs, and its tables are those of the data."""

import gc
import json
import math
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "adapters.md").read_text()
CODE = dict(zip(("torchrl", "stable_worldmodel"), re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL), strict=True))
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in GUIDE.splitlines() if line.startswith("| ")]
DATA = {
    name: json.loads((DOCS / f"adapters_{name}.json").read_text(), parse_int=float)
    for name in ("torchrl", "worldmodel", "tdmpc2")
}
EVALUATIONS = [f"TD-MPC2, {count} evaluations" for count in ("1,024", "3,072")]
TABLES = [
    ("torchrl", ["docstring", "pendulum"]),
    ("worldmodel", ["bowl"]),
    ("tdmpc2", [f"{each}, clipped" for each in EVALUATIONS]),
    ("tdmpc2", [f"{each}, as they are" for each in EVALUATIONS]),
    ("tdmpc2", ["TD-MPC2, episodes"]),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", CODE)
def test_code_runs(package):
    pytest.importorskip(package)
    exec(CODE[package], {})
    gc.collect()  # environments of dm_control leave folders behind, of which Python warns when it ends


@pytest.mark.parametrize(("package", "names"), TABLES)
def test_tables_are_those_of_the_data(package, names):
    examples = [DATA[package]["found"][name] for name in names]
    for solver in examples[0]:
        shown = [each for found in examples for each in cells(found[solver], next(iter(found.values())))]
        assert [solver, *shown] in ROWS


def cells(numbers, first):
    """A mean, and the mean difference to the first solver with its standard error, to the second digit of that."""
    differences = [one - other for one, other in zip(numbers, first, strict=True)]
    if not any(differences):
        return f"{fmean(numbers):.4g}", ""
    error = stdev(differences) / math.sqrt(len(differences))
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{fmean(numbers):.4g}", f"{fmean(differences):+.{digits}f} ({error:.{digits}f})"
