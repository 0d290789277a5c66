"""The validation curve in a checkpoint counts all seconds, and losses as they are."""

import time
from types import SimpleNamespace

import pytest
import torch

from lit_dcem.training.history import History


def trainer(**options):
    state = SimpleNamespace(fn="fit")
    return SimpleNamespace(
        **{"sanity_checking": False, "state": state, "callback_metrics": {}, "global_step": 1, **options}
    )


def test_seconds_since_the_last_validation_are_kept(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    history, model = History(), None
    history.on_train_start(trainer(), model)
    now[0] += 30
    history.on_validation_end(trainer(), model)
    now[0] += 50
    saved = history.state_dict()
    now[0] += 1000  # until it is resumed
    resumed = History()
    resumed.load_state_dict(saved)
    resumed.on_train_start(trainer(), model)
    now[0] += 5
    resumed.on_validation_end(trainer(), model)
    assert [row["seconds"] for row in resumed.rows] == [30, 85]
    older = History()
    older.load_state_dict({name: value for name, value in saved.items() if name != "seconds"})
    older.on_train_start(trainer(), model)
    older.on_validation_end(trainer(), model)
    assert older.rows[-1]["seconds"] == 30


@pytest.mark.parametrize("batches", [1, 4])
def test_the_loss_is_that_of_a_batch_however_many_accumulate(batches):
    """Lightning hands out what it has divided by their number."""
    history, trained = History(), trainer(accumulate_grad_batches=batches)
    for index in range(8):
        history.on_train_batch_end(trained, None, {"loss": torch.tensor(3.0) / batches}, None, index)
    history.on_validation_end(trained, None)
    assert history.rows[-1]["train/loss"] == pytest.approx(3.0)
