"""The validation curve in a checkpoint counts all seconds."""

import time
from types import SimpleNamespace

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
