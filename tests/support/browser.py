"""Pages as headless Chromium shows them."""

import shutil
import subprocess

import pytest

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")


def seen(address, profile, seconds=30):
    """A page as a browser shows it, after its scripts have run for some seconds."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--virtual-time-budget={1000 * seconds}", "--dump-dom"]
    size = "--window-size=1600,2400"  # some pages leave out what nobody has scrolled to
    command = ["chromium", *options, size, f"--user-data-dir={profile}", address]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
