"""What the README shows works, and names files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_code_runs(code):
    exec(code, {})


def test_code_is_there():
    assert PYTHON


@pytest.mark.parametrize("document", ["README.md", "docs/results.md", "checkpoints/README.md", "CONTRIBUTING.md"])
def test_links_and_configs_exist(document):
    path = ROOT / document
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert all((path.parent / link).exists() for link in links), links
    configs = re.findall(r"configs/\w+\.yaml", text)
    assert all((ROOT / config).exists() for config in configs), configs
