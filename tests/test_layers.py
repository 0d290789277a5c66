"""Imports go one way through the package, and files stay small."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lit_dcem"
LEVELS = [
    {"types", "errors", "messages", "shipped"},
    {"archive", "arguments", "files", "trust"},
    {"checkpoint", "checkpoint_io", "overlays", "run_folder", "safe_config", "solvers", "envs"},
    {"models", "data"},
    {"planning"},
    {"experiments"},
    {"evaluation", "runs"},
    {"figures", "callbacks", "sweep"},
    {"attempt", "resuming"},
    {"lightning_cli"},
    {"evaluate_rollouts", "evaluate_table"},
    {"evaluate"},
    {"cli"},
    {"__main__"},
]
# A figure may be drawn by a callback; not the other way around.
WITHIN = {("callbacks", "figures")}
FILES = sorted(PACKAGE.rglob("*.py"))


def level(part: str) -> int:
    return next(i for i, names in enumerate(LEVELS) if part in names)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("lit_dcem.")}


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.name != "__init__.py"], ids=lambda f: str(f.relative_to(PACKAGE))
)
def test_imports_go_one_way(path):
    own = part_of(path)
    for other in imported_parts(path):
        allowed = own == other or (own, other) in WITHIN or level(other) < level(own)
        assert allowed, f"{own} must not import {other}"


def test_solvers_import_nothing_but_types():
    for path in (PACKAGE / "solvers").glob("*.py"):
        assert imported_parts(path) <= {"solvers", "types"}


@pytest.mark.parametrize("path", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_small_and_folders_shallow(path):
    assert len(path.read_text().splitlines()) <= 250
    assert len(path.relative_to(PACKAGE).parts) <= 2
