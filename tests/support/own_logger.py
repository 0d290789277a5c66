"""Loggers as other services provide them: one place for all runs, named by a project and a random id."""

import uuid

from pytorch_lightning.loggers import Logger


class ProjectLogger(Logger):
    """Has a name for each run, which is only shown, as W&B's has."""

    def __init__(self, save_dir: str = ".", name: str = "shown", project: str = "project"):
        super().__init__()
        self._dir, self._project, self._id = save_dir, project, uuid.uuid4().hex[:8]
        self.rows = []

    save_dir = property(lambda self: self._dir)
    name = property(lambda self: self._project)
    version = property(lambda self: self._id)

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_hyperparams(self, *args, **kwargs):
        pass


class NamelessLogger(ProjectLogger):
    """Has no argument for a name, as MLflow's."""

    def __init__(self, save_dir: str = ".", experiment_name: str = "project"):
        super().__init__(save_dir, "", experiment_name)
