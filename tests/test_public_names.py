"""``lit_dcem/__init__.pyi`` is the list of public names: each loads from there, on first use, and no other does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lit_dcem

ROOT = Path(__file__).parents[1]
STUB = ROOT / "lit_dcem" / "__init__.pyi"
IMPORTS = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
NAMES = [alias for node in IMPORTS for alias in node.names]


def printed(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("name", [alias.name for alias in NAMES])
def test_every_public_name_loads(name):
    assert getattr(lit_dcem, name) is not None
    assert name in dir(lit_dcem) and name in lit_dcem.__all__


def test_the_stub_is_the_only_list():
    names = sorted(alias.name for alias in NAMES)
    assert lit_dcem.__all__ == names and len(set(names)) == len(names)
    assert not set(names) & set(re.findall(r"\w+", (ROOT / "lit_dcem" / "__init__.py").read_text().split('"""')[2]))
    everything = {}
    exec("from lit_dcem import *", everything)
    assert set(names) <= everything.keys()


def test_type_checkers_take_the_names_for_public():
    """In a stub only ``import name as name`` gives a name away."""
    assert all(alias.asname == alias.name for alias in NAMES)


def test_a_wheel_has_the_stub():
    """Hatchling takes whole packages, but for what git ignores and what is excluded here."""
    project = (ROOT / "pyproject.toml").read_text()
    wheel = project.split("[tool.hatch.build.targets.wheel]")[1].split("\n[")[0].strip()
    assert wheel == 'packages = ["lit_dcem"]'
    assert not [line for line in (ROOT / ".gitignore").read_text().splitlines() if "pyi" in line]


@pytest.mark.parametrize("name", ["nothing", "_HOMES", "solver", "__wrapped__"])
def test_other_names_are_refused(name):
    with pytest.raises(AttributeError, match=f"module 'lit_dcem' has no attribute '{name}'"):
        getattr(lit_dcem, name)


def test_the_version_is_a_number():
    assert re.fullmatch(r"\d+\.\d+.*", lit_dcem.__version__) and "__version__" in dir(lit_dcem)
    assert any(isinstance(node, ast.AnnAssign) for node in ast.parse(STUB.read_text()).body)


def test_nothing_is_imported_before_it_is_asked_for():
    code = "import sys; before = set(sys.modules); import lit_dcem; print(*set(sys.modules) - before)"
    assert {name.partition(".")[0] for name in printed(code).split()} - sys.stdlib_module_names == {"lit_dcem"}


def test_a_solver_brings_nothing_but_torch_and_jaxtyping():
    code = "import sys, torch, jaxtyping, numpy; before = set(sys.modules)\n"
    code += "from lit_dcem import dcem; print(*set(sys.modules) - before)"
    new = {name for name in printed(code).split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in new if not name.startswith("lit_dcem.solvers")} == {"lit_dcem"}
