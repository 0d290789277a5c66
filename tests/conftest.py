"""One thread for each test and each process that it starts: spinning threads stretch tests on a busy machine."""

import os
import random
import shutil
import tempfile

# Before torch and NumPy are imported, which read them then.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# What `lit-dcem fit` notes of the user's own packages is not to reach the home of whoever runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="lit-dcem-state-")

import numpy as np
import pytest
import torch
from filelock import FileLock

from lit_dcem.training import bfloat16 as processors

torch.set_num_threads(1)


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _seeded():
    """The global generators begin each test in one state: what passes here today passes there tomorrow."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """``made_once(name, make)``: a folder that the first worker to want it fills, by calling ``make`` in it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name, make):
        folder, partial = shared / name, shared / f"{name} in work"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                with pytest.MonkeyPatch.context() as patch:
                    patch.chdir(partial)
                    make()
                partial.rename(folder)
        return folder

    return folder_of


@pytest.fixture
def processor(monkeypatch):
    """Lets a test say whether the processor multiplies bfloat16; the answer counts until the test ends."""

    def multiplies(bfloat16: bool) -> None:
        monkeypatch.setattr(processors, "_this_cpu_does", lambda: bfloat16)
        forget()

    def forget() -> None:
        processors.multiplies_bfloat16_faster.cache_clear()
        processors.warn_if_slow.cache_clear()

    yield multiplies
    monkeypatch.undo()
    forget()
