"""README and documentation: code runs, parsers take the commands, links lead somewhere, and the API is complete."""

import re
import sys
from importlib import import_module

import gymnasium
import pytest
from support.documents import ROOT, Page, pages, without_variables
from support.typed import check_command, few, prepare

import lit_dcem
from lit_dcem.training.figure_source import FIGURES

PAGES = pages()
RUNNING = [page for page in PAGES if page.python and not page.is_notebook]
FILE = re.compile(r"# (my_\w+)\.py\n")
NEEDS = re.compile(r"<!-- needs (\w+) -->")
PLACEHOLDERS = re.compile(r"\b[A-Z]{1,}\b|\.\.\.|[<>\[\]]")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, which is forgotten at the end with what its modules have registered."""
    environments, figures = dict(gymnasium.registry), dict(FIGURES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "disabled")  # without a display dm_control warns when it is imported
    yield tmp_path
    for registry, before in ((gymnasium.registry, environments), (FIGURES, figures)):
        for name in registry.keys() - before.keys():
            del registry[name]
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def write_files(page, folder):
    """Blocks that begin with the name of a module become its file."""
    for code in page.python:
        if named := FILE.match(code):
            (folder / f"{named[1]}.py").write_text(code)


@pytest.mark.parametrize("page", RUNNING, ids=str)
def test_code_of_a_page_runs_in_order(page, folder):
    for package in NEEDS.findall(page.text):
        pytest.importorskip(package)
    write_files(page, folder)
    names = {"__name__": "page"}
    for code in page.python:
        if named := FILE.match(code):
            import_module(named[1])
        else:
            exec(compile(code, str(page), "exec"), names)


def test_every_command_of_a_block_is_taken(folder, monkeypatch):
    for page in PAGES:
        write_files(page, folder)
    prepare(monkeypatch)
    for words in few([words for page in PAGES for words in page.commands]):
        check_command(words)


@pytest.mark.slow
def test_every_command_within_a_sentence_is_taken(folder, monkeypatch):
    prepare(monkeypatch)
    today = [page for page in PAGES if page.path.stem != "CHANGELOG"]
    found = [words for page in today for words in inline(page)]
    assert found
    for words in few(found):
        check_command(words)


def inline(page):
    """Commands in backticks that can be typed as they are."""
    spans = re.findall(r"`((?:[A-Z_]+=\w+ )*(?:lit-dcem|python benchmarks/) ?[^`\n]*)`", page.prose)
    found = [without_variables(span.split()) for span in spans if not PLACEHOLDERS.search(span)]
    return [words for words in found if len(words) > 2]  # fewer name a command, and are not to be typed


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_and_configs_exist(page):
    for link in page.links:
        file, _, anchor = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), link
        assert not anchor or anchor in Page(target).anchors, link
    configs = re.findall(r"configs/\w+\.yaml", page.text)
    assert all((ROOT / config).exists() for config in configs), configs


def test_comments_name_documents_that_exist():
    paths = [path for folder in ("configs", "lit_dcem", "benchmarks") for path in (ROOT / folder).rglob("*.[py]*")]
    for path in (path for path in paths if path.suffix in (".py", ".yaml")):
        named = re.findall(r"\bdocs/[\w/]+\.md", path.read_text())
        assert all((ROOT / name).exists() for name in named), path


def test_every_public_name_has_a_page_of_its_own():
    listed = re.findall(r"^   lit_dcem\.(?:[\w.]+\.)?(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == lit_dcem.__all__


def test_the_readme_is_a_front_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    sacred = [content for language, content in Page(ROOT / "README.md").blocks if language == "bash"]
    assert [block.split("&&")[-1].strip() for block in sacred] == [
        "lit-dcem fit --config configs/cartpole.yaml",
        "pytest",
    ]


def test_every_page_can_be_reached():
    """From the index, by links and lists of contents."""
    start = ROOT / "docs/index.md"
    seen, waiting = {start}, [start]
    while waiting:
        page = Page(waiting.pop())
        targets = {(page.path.parent / link.partition("#")[0]).resolve() for link in page.links} | page.contents
        new = {target for target in targets if target.suffix == ".md" and target.exists()} - seen
        seen |= new
        waiting += new
    assert not [page for page in PAGES if page.path.is_relative_to(ROOT / "docs") and page.path not in seen]
