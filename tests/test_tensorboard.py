"""A run in TensorBoard, as a reader of the documentation looks at it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from support.browser import needs_chromium, seen
from support.documents import ROOT, Page

pytestmark = [pytest.mark.slow, needs_chromium]
TYPED = ["lit-dcem", "fit", "--config", "cartpole", "--config", "debug"]
SCRIPT = ROOT / "docs/draw_tensorboard.py"


def tags_of(page):
    """What the section on TensorBoard names."""
    section = page.text.partition("\n## In TensorBoard\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`((?:train|val|pictures)/\w+)`", section))


def titles_of(page):
    """Titles of the cards, each in two parts, the first of which gives way where there is no room."""
    parts = re.findall(r"first-text-part[^>]*>([^<]*)</span>.*?second-text-part[^>]*>([^<]*)<", page)
    return {"".join(each) for each in parts}


def test_a_browser_shows_what_the_tutorial_names(tmp_path):
    start = Page(ROOT / "docs/start.md").commands
    assert TYPED in start and start[start.index(TYPED) + 1] == ["tensorboard", "--logdir", "runs"]
    program = Path(sys.executable).with_name(TYPED[0])
    subprocess.run([program, *TYPED[1:]], cwd=tmp_path, capture_output=True, check=True)
    tags = tags_of(Page(ROOT / "docs/tutorials/reading_a_run.md"))
    assert len(tags) > 5
    with runpy.run_path(str(SCRIPT))["tensorboard"](tmp_path / "runs") as address:
        page = seen(f"{address}?tagFilter={'%7C'.join(sorted(tags))}#timeseries", tmp_path / "profile")
        runpy.run_path(str(SCRIPT))["draw"](address, tmp_path / "shot.png")
    assert titles_of(page) == tags and "cartpole/version_0" in page
    assert (tmp_path / "shot.png").stat().st_size > 20_000
