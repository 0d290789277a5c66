"""The table of all figures: for the terminal, and as docs/reproduction.md.

``python -m lit_dcem.cli.reproduction.document > docs/reproduction.md`` writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lit_dcem.cli.reproduction.recipes import QUICK, QUICK_ALL, RECIPES, Content, Recipe

INTRODUCTION = """# Reproducing the figures

{origin}

`lit-dcem reproduce` prints this table.
`lit-dcem reproduce N` trains what figure N is drawn from, with the configs as they are now, and draws it.
Figures and runs go into `runs/reproduce`, or into the folder of `--out`.
The same command resumes what was stopped, and leaves alone the runs that are done.
Figures share their runs.
`lit-dcem reproduce all` makes the figures one after another.

Time, hardware and commit are those of the shipped files, from which `lit-dcem figure N` draws.

With `--quick`, each run has debug size and one seed, which shows that everything works, and nothing else.
The column `--quick` has {quick}: what each figure takes by itself in an empty folder, measured once.
`lit-dcem reproduce all --quick` takes about {quick_all}, since figures share their runs.
"""


def shown(recipes: Mapping[str, Recipe], quick: bool = False) -> Table:
    """The recipes as a table that a terminal of 80 columns shows whole; of ``--quick`` if so asked."""
    table = Table("figure", "shows", "runs", "seeds", "time, hardware, commit", box=SIMPLE_HEAD, show_lines=True)
    for column in table.columns:
        column.overflow = "fold"
    for number, recipe in recipes.items():
        cost = [recipe.quick, QUICK] if quick else [recipe.time, recipe.hardware, recipe.commit]
        seeds = recipe.seeds.partition(",")[0] if quick else recipe.seeds
        known = [each for each in cost if each != "any"]
        table.add_row(number, recipe.shows, _runs(recipe, "").replace(", ", "\n"), seeds, "\n".join(known))
    return table


def document() -> str:
    """The content of docs/reproduction.md."""
    lines = [
        "| figure | command | shows | runs | data | seeds | time | hardware | commit | `--quick` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(number, recipe) for number, recipe in RECIPES.items()),
    ]
    remarks = [f"- Figure {number}: {recipe.remark}" for number, recipe in RECIPES.items() if recipe.remark]
    origin = written_by("python -m lit_dcem.cli.reproduction.document", "lit_dcem/cli/reproduction/recipes.py")
    return "\n".join(
        [
            INTRODUCTION.format(origin=origin, quick=QUICK, quick_all=QUICK_ALL),
            *lines,
            "",
            "Where the command does not do what was done:",
            "",
            *remarks,
            "",
        ]
    )


def written_by(command: str, data: str) -> str:
    """A comment for the head of a document, which readers do not see: what writes it, and from what."""
    return f"<!-- Written by {command}; the data is in {data}. -->"


def _row(number: str, recipe: Recipe) -> str:
    cells = [
        number,
        f"`lit-dcem reproduce {number}`",
        recipe.shows,
        _runs(recipe, "`"),
        recipe.data,
        recipe.seeds,
        recipe.time,
        recipe.hardware,
        recipe.commit,
        recipe.quick,
    ]
    return f"| {' | '.join(cells)} |"


def _runs(recipe: Recipe, quote: str) -> str:
    """The configs of its runs."""
    named = [f"{quote}{name}{quote}" for study in recipe.studies for name in _configs(study.content())]
    return ", ".join(dict.fromkeys(named)) or "none"


def _configs(content: Content) -> Iterator[str]:
    phases = [phase for chain in content.get("chains", {}).values() for phase in chain]
    for part in phases or [content]:
        yield " + ".join(name.removesuffix(".yaml") for name in part["configs"])


if __name__ == "__main__":
    print(document(), end="")
