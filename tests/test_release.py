"""What we release is whole: it works where the checkout is not, says where everything is, and is small."""

import csv
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text()
HOME = re.search(r'^Repository = "(.*)"', PROJECT, re.MULTILINE)[1]
MEGABYTE = 10**6
USER = """
import torch
from torch import Tensor

from lit_dcem import DCEM, Solution, dcem, lml, load_pretrained

def objective(x: Tensor) -> Tensor:
    return x.square().sum(-1)

solution: Solution = dcem(objective, torch.zeros(2, 3), torch.ones(2, 3))
mean: Tensor = solution.mean
weights: Tensor = lml(torch.zeros(5), 2)
again: Solution = DCEM(num_candidates=20, num_elites=5)(objective, torch.zeros(2, 3), torch.ones(2, 3))
env: str = load_pretrained("cheetah-run").env
wrong: int = solution.mean
"""
WRONG = len(USER.splitlines())
"""number of its last line, the only one with a mistake"""
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
SWEEP = "{configs: [cartpole, debug], metric: val/cost, grid: {seed_everything: [0, 1]}}"


def test_checkpoints_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "checkpoints").iterdir()) <= 40 * MEGABYTE


def test_constraints_are_within_the_requirements():
    lines = [line for line in (ROOT / ".ci/constraints.txt").read_text().splitlines() if not line.startswith("#")]
    versions = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    for text in re.findall(r'^  "([^"]+)",', PROJECT.split("[project.optional-dependencies]")[0], re.MULTILINE):
        if re.search("[<>=]", text):
            requirement = Requirement(text)
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), text


def test_the_citation_is_of_this_version_and_place():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'version = "{citation["version"]}"' in PROJECT and citation["repository-code"] == HOME


def test_public_ci_runs_on_every_python_that_the_package_names():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    named = re.findall(r"Python :: (3\.\d+)", PROJECT)
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    allowed = SpecifierSet(re.findall(r'requires-python = "([^"]+)"', PROJECT)[0])
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert [minor for minor in minors if allowed.contains(f"{minor}.1")] == named


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel, which was built from the source distribution, and that."""
    out = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(line, check=True, capture_output=True, text=True)
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def run(built, tmp_path_factory):
    """``run(program, *arguments)``: the words of a program of a fresh environment, in a folder outside of the checkout.

    The environment has the wheel, installed by pip, and sees the packages of this one, but not the checkout.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    python = folder / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(built[0])], check=True)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(here))  # a path in here brings no editable packages of its own
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)

    def words(program, *arguments):
        line = [str(folder / "venv/bin" / program), *arguments]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    words.folder, words.environment = folder, environment
    return words


@pytest.mark.slow
def test_the_wheel_is_small_and_says_what_it_is(built):
    assert built[0].stat().st_size <= 30 * MEGABYTE
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        (name,) = (name for name in names if name.endswith("METADATA"))
        metadata = BytesParser().parsebytes(wheel.read(name))
    assert {"lit_dcem/py.typed", "lit_dcem/__init__.pyi", "lit_dcem/configs/cartpole.yaml"} <= set(names)
    assert (
        metadata["License-Expression"] == "MIT" and metadata["Author"] and HOME in str(metadata.get_all("Project-URL"))
    )
    links = re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)\"", metadata.get_payload())
    assert links and all(re.match("https?:|#", one or other) for one, other in links)


@pytest.mark.slow
def test_the_source_has_what_a_checkout_has(built):
    with tarfile.open(built[1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"cli.py", "README.md", "CITATION.cff", "LICENSE", "configs/cartpole.yaml", "tests/test_release.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", ".git/"))]


@pytest.mark.slow
def test_an_installed_wheel_needs_no_checkout(run):
    where = run(
        "python", "-c", "import lit_dcem, importlib.metadata as m; print(lit_dcem.__file__, m.version('lit-dcem'))"
    )
    assert str(run.folder) in where
    run("lit-dcem", "fit", "--config", "cartpole", "--config", "debug", *QUIET)
    assert (run.folder / "runs/cartpole/version_0/curves.csv").is_file()
    assert "CartpoleEmbedding" in run("lit-dcem", "evaluate", "--checkpoint", "cartpole_d2_0", "--seeds", "1")
    run("lit-dcem", "export", "cheetah_phase1_fast_0", "small.ckpt")
    assert run("lit-dcem", "cards", ".").startswith("# Trained weights")
    assert "cheetah-run" in run(
        "python", "-c", "from lit_dcem import load_pretrained as l; print(l('cheetah-run').env)"
    )


@pytest.mark.slow
def test_an_installed_wheel_draws_every_figure(run):
    words = run("lit-dcem", "figure", "all", "--out", "figures") + run("lit-dcem", "figure", "2")
    for name in [*(f"figures/figure{number}.png" for number in range(1, 16)), "figure2.png"]:
        assert name in words.split() and (run.folder / name).stat().st_size > 10_000


@pytest.mark.slow
def test_an_installed_wheel_reproduces_figures(run):
    assert "949b4a8" in run("lit-dcem", "reproduce")
    assert run("lit-dcem", "reproduce", "3").endswith("runs/reproduce/figure3.png\n")
    run("lit-dcem", "reproduce", "2", "--quick", "--out", "again")
    assert (run.folder / "again/figure2.png").is_file()


@pytest.mark.slow
def test_an_installed_wheel_sweeps(run):
    """A shipped sweep by its name, which has 27 runs and is stopped; and one of the user's, of shipped configs."""
    line = [str(run.folder / "venv/bin/lit-dcem"), "sweep", "sweep_cartpole", "--jobs", "1"]
    process = subprocess.Popen(line, cwd=run.folder, env=run.environment, stderr=subprocess.PIPE, text=True)
    first = run.folder / "runs/sweep_cartpole/latent_dim=2,temperature=1.0,seed_everything=0/version_0/config.yaml"
    while process.poll() is None and not first.is_file():
        time.sleep(0.1)
    begun = first.is_file()  # a run that is stopped before its first update leaves no folder
    process.terminate()
    assert "Stopped; the same command resumes the sweep." in process.communicate()[1] and begun
    assert len(list(run.folder.glob("runs/sweep_cartpole/*/result.json"))) == 27
    (run.folder / "mine.yaml").write_text(SWEEP)
    run("lit-dcem", "sweep", "mine.yaml")
    with (run.folder / "runs/mine/results.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "done"]


@pytest.mark.slow
def test_users_of_type_checkers_see_our_types(run):
    (run.folder / "user.py").write_text(USER)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(run.folder / "venv/bin/python")]
    pyright = ["pyright", "--pythonpath", str(run.folder / "venv/bin/python")]
    for checker in (mypy, pyright):
        done = subprocess.run([*checker, "user.py"], cwd=run.folder, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if re.search(r"\berror\b", line) and "user.py:" in line]
        assert len(lines) == 1 and f"user.py:{WRONG}:" in lines[0], done.stdout + done.stderr
