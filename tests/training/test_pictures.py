"""Pictures reach every logger that takes them; else there is one warning."""

import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, WandbLogger

from lit_dcem.training import pictures


class Stub:
    """A trainer that has just validated, with loggers."""

    def __init__(self, loggers, **metrics):
        self.loggers, self.global_step = loggers, 10
        self.callback_metrics = {name: torch.tensor(float(value)) for name, value in metrics.items()}


class Recorder:
    """Stands for the experiment of a logger: remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


class FakeMLFlow(MLFlowLogger):
    def __init__(self):
        self.recorder = Recorder()

    experiment = property(lambda self: self.recorder)
    run_id = property(lambda self: "run")


class FakeWandb(WandbLogger):
    def __init__(self):
        self.recorder = Recorder()

    def log_image(self, key, images, step=None, **kwargs):
        self.recorder.log_image(key, images)


def test_every_logger_that_takes_pictures_gets_them(tmp_path):
    mlflow, wandb, figure = FakeMLFlow(), FakeWandb(), Figure()
    trainer = Stub([mlflow, CSVLogger(tmp_path), wandb], step=5000)
    pictures.log_figure(trainer, "search", figure)
    assert mlflow.recorder.calls == [("log_figure", ("run", figure, "pictures/search/5000.png"), {})]
    assert wandb.recorder.calls == [("log_image", ("pictures/search", [figure]), {})]


def test_a_video_is_an_artifact_of_mlflow():
    mlflow = FakeMLFlow()
    frames = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
    pictures.log_video(Stub([mlflow]), "episode", frames)
    ((name, (run, path, folder), _),) = mlflow.recorder.calls
    assert (name, run, folder) == ("log_artifact", "run", "pictures/episode")
    assert path.endswith("9.gif")  # updates are counted from 0 in logs


def test_loggers_that_take_none_are_said_once(tmp_path):
    with pytest.warns(UserWarning, match="Pictures need a logger that takes them.*got CSVLogger"):
        pictures.warn_without_pictures(Stub([CSVLogger(tmp_path)]))
    pictures.warn_without_pictures(Stub([]))
    assert not pictures.is_due(pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False))
