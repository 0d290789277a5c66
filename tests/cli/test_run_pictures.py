"""What a run shows in TensorBoard without being asked: the curves and pictures that the documentation names."""

import io
import re
from pathlib import Path

import imageio.v2 as imageio
import pytest
from support.command_runs import QUIET, folder, typed
from support.documents import ROOT, Page
from support.drawing import skip_without_opengl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_dcem.cli.main import main

TUTORIAL = Page(ROOT / "docs/tutorials/reading_a_run.md")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shown(run):
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0}).Reload()


def pictures(events, tag):
    """The pictures of a tag, decoded, once it is sure that there is more than one colour in each."""
    found = [imageio.mimread(io.BytesIO(event.encoded_image_string)) for event in events.Images(tag)]
    assert found and all(frame.min() < frame.max() for frames in found for frame in frames)
    return found


def test_a_cartpole_run_shows_what_the_tutorial_names():
    section = TUTORIAL.text.partition("\n## In TensorBoard\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE))
    main(typed("cartpole", "--trainer.max_epochs=1", "--model.init_args.validation_repeats=1"))
    events = shown(folder("cartpole"))
    tags = {*events.Tags()["scalars"], *events.Tags()["images"]}
    assert len(named) > 6 and named <= tags
    assert len(pictures(events, "pictures/search")) == 1


def test_a_regression_shows_its_energy_and_predictions():
    main(typed("regression", "--trainer.max_epochs=1"))
    events = shown(folder("regression"))
    assert events.Tags()["images"] == ["pictures/energy and predictions"]
    assert len(pictures(events, "pictures/energy and predictions")) == 1


@pytest.mark.slow
def test_a_run_of_planet_shows_its_curves_what_the_model_imagines_and_a_video():
    """Drawn by MuJoCo: the curves of the tutorial's table, and after each validation a film that moves."""
    skip_without_opengl()
    section = TUTORIAL.text.partition("\n## A long run of a world model\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE))
    assert {"train/return", "val/return", "train/kl"} <= named
    small = ["--data.time_limit=160", "--data.evaluation_episodes=1"]
    main(["fit", "--config=phase1", "--config=debug", *QUIET, *small])
    events = shown(Path("runs/phase1/version_0"))
    scalars, images = events.Tags()["scalars"], events.Tags()["images"]
    assert named <= set(scalars) and any(tag.startswith("speed/") for tag in scalars)
    assert sorted(images) == ["pictures/episode", "pictures/imagined"]
    assert len(pictures(events, "pictures/imagined")) == 2
    for frames in pictures(events, "pictures/episode"):
        assert len(frames) == 10 and (frames[0] != frames[-1]).any()  # every fourth of 40 decisions
