"""A sweep shares the cores out among the runs that it trains at a time."""

import joblib
import pytest
import yaml

from lit_dcem.cli.sweep import checking, execution, sweep
from lit_dcem.errors import UsageError


@pytest.fixture
def threads(tmp_path, monkeypatch):
    """``threads(cores)``: sweep four runs, each of which fails at once; return the ``OMP_NUM_THREADS`` of each."""
    content = {"configs": ["a.yaml"], "metric": "val/cost", "grid": {"seed_everything": [0, 1, 2, 3]}, "arguments": {}}
    (tmp_path / "a.yaml").write_text("trainer: {max_epochs: 1}")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(checking, "check_runs", lambda runs, metric: None)

    def threads(cores, **options):
        told = []
        monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
        monkeypatch.setattr(execution, "_call", lambda *_, env, **__: told.append(env["OMP_NUM_THREADS"]) or 1)
        with pytest.raises(UsageError, match="got 4 of 4 that failed"):
            sweep(tmp_path / "s.yaml", tmp_path / "out", **options)
        return told

    return threads


@pytest.mark.parametrize(
    ("cores", "jobs", "each"), [(8, None, "1"), (8, 1, "8"), (8, 2, "4"), (8, 3, "2"), (2, 3, "1")]
)
def test_runs_share_the_cores(threads, monkeypatch, cores, jobs, each):
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads(cores, jobs=jobs) == [each] * 4


def test_the_users_own_number_of_threads_counts(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads(8, jobs=2) == ["3"] * 4
