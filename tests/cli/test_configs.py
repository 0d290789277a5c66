"""Every config we ship parses against the real signatures, and builds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.cli import LightningCLI

from lit_dcem.cli.main import main
from lit_dcem.cli.overlays import spell_out
from lit_dcem.envs.vector import VectorEnv

CONFIGS = Path(__file__).parents[2] / "configs"
OTHER_COMMANDS = (
    "debug",
    "debug_planet",
    "debug_phase3",
    "debug_joint",
    "cartpole_expert",
    "cartpole_pca",
)
WHOLE = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem not in OTHER_COMMANDS and "sweep_" not in path.stem)
PHASE3 = [path for path in WHOLE if "_phase3" in path.stem]
PLANET = [path for path in WHOLE if "_phase" in path.stem or "_joint" in path.stem]


def with_debug(paths, debug):
    return [
        pytest.param(path, ["--config", str(CONFIGS / f"{debug}.yaml")], id=f"{path.stem}-{debug}") for path in paths
    ]


CASES = [pytest.param(path, [], id=path.stem) for path in WHOLE]
CASES += (
    with_debug([path for path in WHOLE if "_phase" not in path.stem], "debug")
    + with_debug(PLANET, "debug_planet")
    + with_debug(PHASE3, "debug_phase3")
)
CASES += with_debug([CONFIGS / "cheetah_joint.yaml"], "debug_joint")


@pytest.mark.parametrize(("path", "extra"), CASES)
def test_config_builds(path, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lit-dcem"])
    arguments = ["--config", str(path), *extra, "--trainer.accelerator=cpu"]
    built = LightningCLI(args=spell_out(arguments), run=False, save_config_callback=None)
    assert built.model.configure_optimizers()
    assert built.trainer.loggers[0].name == path.stem


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There will be no videos")
@pytest.mark.parametrize("path", PLANET, ids=[path.stem for path in PLANET])
def test_debug_planet_trains_every_planet_config(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VectorEnv, "render", black)
    debug = f"--config={CONFIGS / 'debug_planet.yaml'}"
    main(["fit", f"--config={path}", debug, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"])
    assert (tmp_path / "runs" / path.stem / "version_0/checkpoints/last.ckpt").is_file()


def black(envs, index, height, width):
    return np.zeros((height, width, 3), np.uint8)
