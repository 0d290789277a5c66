"""The config of a run outlives what happens to its next start."""

import os

import pytest
import pytorch_lightning as pl
from jsonargparse import Namespace

from lit_dcem.errors import UsageError
from lit_dcem.training.config_file import ConfigFile


class Parsed:
    """Stands for the parser of the command line."""

    def dump(self, config, skip_none, skip_validation):
        assert not skip_none and skip_validation
        assert config.ckpt_path is None
        return f"seed: {config.seed}\n"


def start(folder, seed):
    trainer = pl.Trainer(default_root_dir=folder, logger=False, enable_checkpointing=False, accelerator="cpu")
    ConfigFile(Parsed(), Namespace(seed=seed, ckpt_path="last")).on_fit_start(trainer, None)


def test_the_old_config_is_whole_until_the_new_one_is_there(tmp_path, monkeypatch):
    start(tmp_path, 1)
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(UsageError, match=r"config\.yaml must be writable, got No space left on device"):
            start(tmp_path, 2)
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"
    start(tmp_path, 3)
    assert (tmp_path / "config.yaml").read_text() == "seed: 3\n"
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
