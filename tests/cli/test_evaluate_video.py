"""``lit-dcem evaluate --video`` of a simulation, drawn by MuJoCo and read again."""

import subprocess
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from support.copies import SOON, copied
from support.documents import ROOT, Page
from support.drawing import skip_without_opengl

from lit_dcem.cli.main import main


def read(path):
    """The frames of a film."""
    if path.suffix == ".gif":
        return np.stack([frame[..., :3] for frame in imageio.mimread(path)])
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-vf", "scale=64:48", "-"]
    line = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), *raw]
    return np.frombuffer(subprocess.run(line, capture_output=True, check=True).stdout, np.uint8).reshape(-1, 48, 64)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_command_of_the_first_page_films_an_episode(suffix, tmp_path, monkeypatch):
    """Of a copy of its checkpoint, whose episodes end after ten decisions."""
    skip_without_opengl()
    monkeypatch.chdir(tmp_path)
    (typed,) = [words for words in Page(ROOT / "docs/start.md").commands if "--video" in words]
    name, film = (typed[typed.index(option) + 1] for option in ("--checkpoint", "--video"))
    words = {name: copied(name, "soon.ckpt", data=SOON), film: str(Path(film).with_suffix(suffix))}
    main([words.get(word, word) for word in typed[1:]])
    frames = read(Path(film).with_suffix(suffix))
    assert len(frames) == 10 and all(frame.min() < frame.max() for frame in frames)
    assert (frames[0] != frames[-1]).any()
