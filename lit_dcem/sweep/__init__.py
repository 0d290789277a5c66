"""``lit-dcem sweep``: train every point of a grid of options, each in a process of its own, into one table."""

from lit_dcem.sweep.running import sweep

__all__ = ["sweep"]
