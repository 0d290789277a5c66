"""``lit-dcem sweep``: train every point of a grid of options, in one phase or several, into one table."""

from lit_dcem.cli.sweep.running import sweep

__all__ = ["sweep"]
