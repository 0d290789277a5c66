"""Each tutorial is a small program that compiles, leads somewhere, and runs without a word on stderr."""

import ast
import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "docs/tutorials"
TUTORIALS = [
    "first_argmin_layer",
    "latent_action_space",
    "learning_an_energy",
    "planning_with_your_own_dynamics",
    "reading_a_run",
    "world_model_of_your_own_task",
]
CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PARSERS = {".py": ast.parse, ".yaml": yaml.safe_load}
LONGEST = 75
"""lines of code in a tutorial, without empty ones and what it writes into files"""


def text_of(name):
    return (FOLDER / f"{name}.md").read_text()


def code_of(text):
    """The code of each cell that runs, once it and the files that other cells write are parsed."""
    cells = [re.sub(r"\A(:.*\n)+", "", cell) for cell in CELL.findall(text)]
    written = [cell for cell in cells if cell.startswith("%%writefile ")]
    for cell in written:
        first, _, rest = cell.partition("\n")
        PARSERS[Path(first.split()[1]).suffix](rest)
    run = [cell for cell in cells if cell not in written]
    for cell in run:
        ast.parse(cell)
    return run


def test_every_tutorial_is_tested():
    assert sorted({path.stem for path in FOLDER.glob("*.md")} - {"index"}) == TUTORIALS


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial_is_a_small_notebook_that_leads_somewhere(name):
    text = text_of(name)
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["file_format"] == "mystnb" and body.startswith("\n# ")
    code = code_of(text)
    assert text.count("```{code-cell}") >= len(code) > 3
    assert sum(bool(line.strip()) for cell in code for line in cell.splitlines()) <= LONGEST
    assert len(re.findall(r"\]\(", text.partition("\n## Where next\n")[2])) >= 2
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert all((FOLDER / link).exists() for link in links), links


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter, in this process; a tutorial runs in a process of its own
@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial_runs(name, tmp_path, monkeypatch):
    reading = pytest.importorskip("myst_nb.core.read", reason="needs the packages of the documentation")
    from nbclient import NotebookClient

    monkeypatch.setenv("MUJOCO_GL", "disabled")
    notebook = reading.read_myst_markdown_notebook(text_of(name))
    here = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=here).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
