"""lit-dcem: the differentiable cross-entropy method in PyTorch Lightning.

    from lit_dcem import dcem
    solution = dcem(objective, mean, std)    # solution.mean is differentiable in whatever the objective depends on

The public names are those of ``__init__.pyi``, next to this file. Each loads on first use, so that ``lit-dcem --help``
does not wait for torch.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name == "__all__":
        return sorted(_homes())
    if name not in _homes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes(), "__all__", "__version__"})


@cache
def _homes() -> dict[str, str]:
    """The public names, each with the module that defines it."""
    import ast

    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names if node.module}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lit-dcem")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"
