"""Every config we ship parses against the real signatures, and builds."""

import sys
from pathlib import Path

import pytest
from pytorch_lightning.cli import LightningCLI

CONFIGS = Path(__file__).parents[1] / "configs"
OTHER_COMMANDS = (
    "debug",
    "debug_planet",
    "debug_phase3",
    "debug_joint",
    "sweep_cartpole",
    "cartpole_expert",
    "cartpole_pca",
)
WHOLE = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem not in OTHER_COMMANDS)
PHASE3 = [path for path in WHOLE if "_phase3" in path.stem]
PLANET = [path for path in WHOLE if "_phase" in path.stem and path not in PHASE3]


def with_debug(paths, debug):
    return [
        pytest.param(path, ["--config", str(CONFIGS / f"{debug}.yaml")], id=f"{path.stem}-{debug}") for path in paths
    ]


CASES = [pytest.param(path, [], id=path.stem) for path in WHOLE]
CASES += with_debug(WHOLE, "debug") + with_debug(PLANET, "debug_planet") + with_debug(PHASE3, "debug_phase3")
CASES += with_debug([CONFIGS / "cheetah_joint.yaml"], "debug_joint")


@pytest.mark.parametrize(("path", "extra"), CASES)
def test_config_builds(path, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lit-dcem"])
    arguments = ["--config", str(path), *extra, "--trainer.accelerator=cpu"]
    built = LightningCLI(args=arguments, run=False, save_config_callback=None)
    assert built.model.configure_optimizers()
    assert built.trainer.loggers[0].name == path.stem
