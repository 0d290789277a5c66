"""Every benchmark runs, as a trial."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = ("cartpole", "controller", "planner", "solvers", "training")
PRECISIONS = ("controller", "planner", "training")


def run(name, *options, cwd):
    command = [sys.executable, str(FOLDER / f"{name}.py"), *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_quick_single_round(name, tmp_path):
    precision = ["--precisions", "float32"] if name in PRECISIONS else []
    done = run(name, "--quick", "--rounds=1", "--threads=1", *precision, "--out=out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["rounds"] == 1 and report["timing"]
    assert not [row["what"] for row in report["timing"] if "bfloat16" in row["what"] + row["peer"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_rounds_are_refused(name, tmp_path):
    done = run(name, "--rounds=0", cwd=tmp_path)
    assert done.returncode == 2 and "at least 1, got 0" in done.stderr


@pytest.mark.slow
def test_functions_compare_all_solvers(tmp_path):
    outputs = ("--out=out.json", "--markdown=out.md", "--figure=out.png")
    done = run("functions", "--quick", "--rounds=1", *outputs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    problems = {(row["function"], row["dim"], row["budget"]) for row in rows}
    solvers = {row["solver"] for row in rows}
    assert len(problems) == 10 * 2 * 2 and len(rows) == len(problems) * len(solvers)
    assert {"lit-dcem CEM", "lit-dcem CMA", "scipy differential evolution"} <= solvers
    assert (tmp_path / "out.md").read_text().count("\n") > 20 and (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.slow
def test_test_functions_have_their_optimum_where_they_say():
    code = "import torch, landscapes as l\n"
    code += "for name in l.FUNCTIONS:\n    for dim in (2, 10, 40):\n        f = l.landscape(name, dim, 3)\n"
    code += "        assert f(f.optimum.unsqueeze(1)).abs().max() < 1e-12, name\n"
    code += "        assert f(f.optimum.unsqueeze(1) + torch.randn(3, 999, dim).double()).min() > 0, name\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torchrl", "stable-worldmodel"])
def test_adapters_are_compared_with_the_solvers_of_a_package(package, tmp_path):
    if not find_spec(package.replace("-", "_")):
        pytest.skip(f"{package} is not installed")
    done = run("adapters", package, "--quick", "--rounds=1", "--out=out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out.json").read_text())["found"]
    for what, solvers in found.items():
        assert "lit-dcem CEM" in solvers
        assert len(solvers) == (4 if "episodes" in what else 11 if "TD-MPC2" in what else 6), what
