"""Loggers of other services, with their real packages."""

from pathlib import Path

import pytest
from support.command_runs import command, typed

pytestmark = pytest.mark.slow


def test_wandb_goes_on_with_its_run(tmp_path):
    pytest.importorskip("wandb")
    logger = ["--trainer.logger=WandbLogger", "--trainer.logger.offline=true", "--trainer.logger.project=demo"]
    runs = tmp_path / "runs/demo"
    checkpoint = "--ckpt_path=runs/demo/version_0/checkpoints/last.ckpt"
    for epochs, *more in ((1,), (2, "--ckpt_path=last"), (3, checkpoint), (1,)):
        with command(typed("phase1", f"--trainer.max_epochs={epochs}", *logger, *more), tmp_path) as process:
            words = process.communicate()[0]
        assert process.returncode == 0, words
    assert sorted(path.name for path in runs.iterdir()) == ["version_0", "version_1"]
    names = [path.name.rpartition("-")[2] for path in sorted(Path(tmp_path).glob("**/offline-run-*"))]
    assert len(names) == 4 and len(set(names)) == 2  # three processes of one run, and another run
    assert len(list(runs.glob("version_*/replay/rank_0/episodes.f32"))) == 2
