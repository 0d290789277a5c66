"""The documentation builds without a warning, and a reader finds things in it."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest
from support.browser import needs_chromium, seen

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = ["-W", "--keep-going", "-q", "-c", str(ROOT / "docs"), str(ROOT), str(folder)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_formulas_and_signatures_are_there(site):
    for page in ("docs/idea.html", "docs/generated/lit_dcem.lml.html", "docs/generated/lit_dcem.WorldModel.html"):
        assert '<math display="block">' in (site / page).read_text(), page
    assert "num_candidates" in (site / "docs/generated/lit_dcem.dcem.html").read_text()


def test_it_needs_nothing_from_the_net(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]*)"', page.read_text())
        assert not loaded, page


@needs_chromium
def test_a_reader_searches_for_temperature_and_follows_a_result(site, tmp_path):
    found = seen(f"file://{site}/search.html?q=temperature", tmp_path)
    links = re.findall(r'<li class="kind-[^>]*><a href="([^"]+)"', found)
    assert len(links) > 3
    page = seen(urljoin(f"file://{site}/", links[0].replace("&amp;", "&")), tmp_path)
    assert "temperature" in page and "<h1" in page


def test_the_picture_of_the_idea_is_drawn_again(tmp_path):
    out = tmp_path / "idea.png"
    subprocess.run([sys.executable, "-W", "error", str(ROOT / "docs/draw_idea.py"), str(out)], check=True)
    assert out.stat().st_size > 10_000
