"""Draw docs/figures/tensorboard.png: curves of the cartpole in TensorBoard, as Chromium shows them.

lit-dcem fit --config cartpole && python docs/draw_tensorboard.py runs
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from PIL import Image

PAGE = "?darkMode=false&forceSVG=true&smoothing=0.6&tagFilter=train%2Fcost%7Cval%2F#timeseries"
WINDOW = (1540, 1010)
SHOWN = (312, 112, 1272, 960)
"""of the window: four cards, without the runs at the left and the settings at the right"""
PATIENCE = 120
"""seconds to wait for TensorBoard"""


@contextmanager
def tensorboard(runs: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read the runs."""
    command = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", str(runs), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            found = (re.search(r"http://localhost:\d+/", line) for line in server.stderr)
            address = next(match[0] for match in found if match)
            wait_for_curves(address)
            yield address
        finally:
            server.terminate()


def wait_for_curves(address: str) -> None:
    """Wait until the server knows a curve: it answers before it has read the runs."""
    end = time.monotonic() + PATIENCE
    while not json.load(urlopen(f"{address}data/plugin/timeseries/tags"))["scalars"]["runTagInfo"]:
        if time.monotonic() > end:
            raise TimeoutError("TensorBoard found no curves.")
        time.sleep(1)


def draw(address: str, out: Path) -> None:
    """Open the page, crop what it shows, and save it with few colours."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=60000"]
        options += [f"--window-size={WINDOW[0]},{WINDOW[1]}", f"--screenshot={shot}", f"--user-data-dir={folder}"]
        subprocess.run(["chromium", *options, address + PAGE], check=True, capture_output=True)
        Image.open(shot).crop(SHOWN).convert("RGB").quantize(64).save(out, optimize=True)


def main(runs: Path, out: Path) -> None:
    """Serve the runs, and draw the page."""
    with tensorboard(runs) as address:
        draw(address, out)


if __name__ == "__main__":
    given = [Path(each) for each in sys.argv[1:]]
    main(given[0] if given else Path("runs"), *given[1:] or [Path(__file__).parent / "figures/tensorboard.png"])
