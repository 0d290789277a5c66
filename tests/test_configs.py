"""Every config we ship parses against the real signatures, and builds."""

import sys
from pathlib import Path

import pytest
from pytorch_lightning.cli import LightningCLI

CONFIGS = Path(__file__).parents[1] / "configs"
OTHER_COMMANDS = ("debug", "sweep_cartpole", "cartpole_expert", "cartpole_pca")
WHOLE = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem not in OTHER_COMMANDS)


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
@pytest.mark.parametrize("extra", [[], ["--config", str(CONFIGS / "debug.yaml")]], ids=["whole", "debug"])
def test_config_builds(path, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lit-dcem"])
    arguments = ["--config", str(path), *extra, "--trainer.accelerator=cpu"]
    built = LightningCLI(args=arguments, run=False, save_config_callback=None)
    assert built.model.configure_optimizers()
    assert built.trainer.loggers[0].name == path.stem
