"""The floor plan: imports go one way, experiments do not know each other, and files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lit_dcem"
FLOORS = [
    {"errors", "solvers"},
    {"files", "envs", "adapters"},
    {"training"},
    {"embedding"},
    {"regression", "cartpole", "planet"},
    {"cli"},
    {"__main__"},
]
"""the rooms of the package, from the ground up; __init__ only names what is in them"""
PLANET = [{"model", "data"}, {"planning"}, {"phases"}, {"figures"}, {"evaluate", "controller"}]
"""the same inside the largest room"""
LIBRARIES = {"torch", "jaxtyping"}
"""all that solvers need"""
OPTIONAL = {"arrays.py": {"numpy"}, "types.py": {"numpy"}}
"""what a file of the solvers uses where it is installed (`tests/solvers/test_alone.py` runs them without it)"""
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path != PACKAGE / "__init__.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def floor(name: str, floors: list[set[str]]) -> int:
    return next(i for i, names in enumerate(floors) if name in names)


def parts(path: Path) -> list[str]:
    return [part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts]


def imported(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} if node.module.count(".") else {f"{node.module}.{a.name}" for a in node.names}
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def ours(path: Path) -> list[list[str]]:
    return [name.split(".")[1:] for name in imported(path) if name.startswith("lit_dcem.")]


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path):
    own = parts(path)[0]
    for other in {names[0] for names in ours(path)} - {own, "__version__"}:
        assert floor(other, FLOORS) < floor(own, FLOORS), f"{own} must not import {other}"


@pytest.mark.parametrize("path", [path for path in FILES if parts(path)[0] == "planet"], ids=name_of)
def test_imports_in_the_largest_room_go_one_way_too(path):
    own = parts(path)[1]
    for other in {names[1] for names in ours(path) if names[0] == "planet"} - {own}:
        assert floor(other, PLANET) < floor(own, PLANET), f"planet.{own} must not import planet.{other}"


def test_the_house_is_small():
    rooms = {parts(path)[0] for path in FILES}
    arrows = {(parts(path)[0], names[0]) for path in MODULES for names in ours(path)}
    assert len(rooms) <= 13 and len(FLOORS) <= 7
    assert len({(one, other) for one, other in arrows if one != other}) <= 40


@pytest.mark.parametrize("path", sorted((PACKAGE / "solvers").glob("*.py")), ids=name_of)
def test_solvers_stand_alone(path):
    for name in imported(path):
        root, _, rest = name.partition(".")
        assert (
            root in LIBRARIES | OPTIONAL.get(path.name, set())
            or rest.startswith("solvers.")
            or root in __import__("sys").stdlib_module_names
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_small_and_folders_shallow(path):
    assert len(path.read_text().splitlines()) <= 250
    assert len(parts(path)) <= 3


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_imports_another(path):
    assert not [name for name in imported(path) if name.split(".")[-2 if "." in name else 0].startswith("test_")]


def test_tests_lie_where_their_subject_does():
    folders = {path.parent.name for path in TESTS if path.name.startswith("test_")} - {"tests"}
    assert folders <= {parts(path)[0] for path in FILES}
