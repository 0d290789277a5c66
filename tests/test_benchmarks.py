"""Every benchmark runs, as a trial."""

import json
import subprocess
import sys
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
