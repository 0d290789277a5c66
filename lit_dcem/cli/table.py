"""The table that ``lit-dcem evaluate`` prints."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lit_dcem.training.evaluating import Reports, Rows


def table_of(reports: Reports, rows: Rows) -> Table:
    """A column for each report, and a row for each number that all of them have."""
    table = Table("", box=SIMPLE_HEAD)
    for name in reports:
        table.add_column(name, justify="right")
    for key, (title, show) in rows.items():
        values = [report[key] for report in reports.values() if key in report]
        if len(values) < len(reports):
            continue
        if isinstance(values[0], Mapping):
            for each in values[0]:
                table.add_row(title.format(each), *[show(value[each]) for value in values])
        else:
            table.add_row(title, *[show(value) for value in values])
    return table
