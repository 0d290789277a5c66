"""Every config we ship parses against the real signatures, and builds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.cli import LightningCLI
from support.phases import STARTS

from lit_dcem.cli.completing import in_front, missing
from lit_dcem.cli.main import main
from lit_dcem.cli.overlays import spell_out, without_overlays
from lit_dcem.envs.vector import VectorEnv

CONFIGS = Path(__file__).parents[2] / "configs"
PARTS = ("debug", "finetune_dcem", "value", "walker_phase1", "walker_phase2")
"""configs that come after another one"""
OTHER_COMMANDS = ("cartpole_expert", "cartpole_pca")
WHOLE = sorted(
    path for path in CONFIGS.glob("*.yaml") if path.stem not in (*PARTS, *OTHER_COMMANDS) and "sweep_" not in path.stem
)
PLANET = [path for path in WHOLE if "phase" in path.stem or path.stem == "joint"]
LINES, ALL_LINES = 35, 700
"""most lines of a config, without comments, and of all together"""


def started(path):
    start = [f"--model.start={STARTS[path.stem]}"] if path.stem in STARTS else []
    return [*start, "--data.initial_replay=null"] if "phase2" in path.stem else start


def with_part(base, *parts):
    """Settings of the same experiment with the same part are slow ones."""
    extra = [word for part in parts for word in ("--config", str(CONFIGS / f"{part}.yaml"))]
    marks = [pytest.mark.slow] if "debug" in parts and base.endswith(("_paper", "_best", "_dcem")) else []
    return pytest.param(CONFIGS / f"{base}.yaml", extra, id="-".join([base, *parts]), marks=marks)


CASES = [pytest.param(path, [], id=path.stem) for path in WHOLE]
CASES += [with_part(path.stem, "debug") for path in WHOLE]
CASES += [
    with_part(*names) for names in (("phase1", "value"), ("phase1", "value", "debug"), ("phase1", "walker_phase1"))
]
CASES += [with_part("phase2", "walker_phase2"), with_part("phase2", "walker_phase2", "finetune_dcem")]


@pytest.mark.parametrize(("path", "extra"), CASES)
def test_config_builds(path, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_of(path, extra, monkeypatch).configure_optimizers()


def model_of(path, extra, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lit-dcem"])
    arguments = ["fit", "--config", str(path), *extra, *started(path), "--trainer.accelerator=cpu"]
    found = missing(without_overlays(arguments))
    words = in_front(found, spell_out(arguments, found))[1:]
    return LightningCLI(args=words, run=False, save_config_callback=None).model


DCEM = [("phase2_dcem",), ("swingup_phase2",), ("phase2", "walker_phase2", "finetune_dcem")]


@pytest.mark.parametrize(("path", "extra"), [with_part(*names) for names in DCEM])
def test_a_config_called_dcem_learns_through_its_search(path, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learning = model_of(path, extra, monkeypatch).decoder_learning
    assert learning.solver.is_differentiable and learning.embedding_loss.answer > 0


def test_configs_are_short():
    lines = {path.name: path.read_text().splitlines() for path in CONFIGS.glob("*.yaml")}
    long = [name for name, each in lines.items() if sum(not line.lstrip().startswith("#") for line in each) > LINES]
    assert not long and sum(map(len, lines.values())) <= ALL_LINES


def test_no_config_states_sizes_of_the_environment():
    """A size that is not the environment's is the model's own."""
    text = "".join(path.read_text() for path in CONFIGS.glob("*.yaml"))
    assert "observation_dim" not in text and "action_dim" not in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There will be no videos")
@pytest.mark.parametrize("path", PLANET, ids=[path.stem for path in PLANET])
def test_debug_trains_every_planet_config(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VectorEnv, "render", black)
    debug = f"--config={CONFIGS / 'debug.yaml'}"
    main(
        [
            "fit",
            f"--config={path}",
            debug,
            *started(path),
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
        ]
    )
    assert (tmp_path / "runs" / path.stem / "version_0/checkpoints/last.ckpt").is_file()


def black(envs, index, height, width):
    return np.zeros((height, width, 3), np.uint8)
