"""A signal stops a run at any moment, and a resume continues it as if it had never stopped. A second one kills it."""

import signal

import pytest
import torch
from support.command_runs import assert_same_run, folder, typed

from lit_dcem import CartpoleEmbedding
from lit_dcem.cartpole import states
from lit_dcem.cli.main import main

TRAINED = typed("cartpole", "--data.updates_per_epoch=4", "--trainer.val_check_interval=2")
"""two epochs of four updates; after every second update a validation, of two batches"""
CODES = {"SIGINT": 130, "SIGTERM": 143}


@pytest.fixture
def straight(made_once, monkeypatch):
    """The run that was never stopped."""
    monkeypatch.setattr(states, "BATCH", 50)  # of the hundred states that a validation has
    monkeypatch.setattr(CartpoleEmbedding, "pictures", None)  # they take as long as all the rest
    return made_once("validated within epochs", lambda: main(TRAINED)) / folder("cartpole")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stop(capsys, name, moment, number, times=1, trained=TRAINED):
    """Train until signals come; the exit code, and what is said last."""
    killer = {"moment": moment, "number": number, "name": name, "times": times}
    options = [f"--trainer.callbacks.{option}={value}" for option, value in killer.items()]
    with pytest.raises(SystemExit) as exit_:
        main([*trained, "--trainer.callbacks+=support.killer.Killer", *options])
    words = capsys.readouterr().err
    assert "Traceback" not in words
    return exit_.value.code, words.strip().splitlines()[-1]


def assert_saved(run, update, validated):
    """The last checkpoint is of an update, after validations at others."""
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == update
    assert [row["step"] for row in saved["callbacks"]["History"]["rows"]] == validated


@pytest.mark.parametrize(
    ("name", "moment", "number", "update", "validated"),
    [
        pytest.param("SIGINT", "step", 2, 2, [2], id="before a validation within an epoch"),
        pytest.param("SIGTERM", "validation", 1, 3, [2], id="in one"),
        pytest.param("SIGTERM", "step", 4, 4, [2, 4], id="before one that ends an epoch", marks=pytest.mark.slow),
        pytest.param("SIGINT", "validation", 3, 4, [2, 4], id="in it", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "validation", 4, 4, [2, 4], id="at its end", marks=pytest.mark.slow),
        pytest.param("SIGINT", "step", 8, 8, [2, 4, 6, 8], id="before the last validation", marks=pytest.mark.slow),
    ],
)
def test_a_signal_lets_a_validation_end(straight, here, capsys, name, moment, number, update, validated):
    told = f"lit-dcem: Stopped after update {update}, and saved; resume with --ckpt_path last."
    assert stop(capsys, name, moment, number) == (CODES[name], told)
    assert_saved(folder("cartpole"), update, validated)
    main([*TRAINED, "--ckpt_path=last"])
    assert_same_run(straight, folder("cartpole"))


@pytest.mark.parametrize(
    ("name", "moment", "number"),
    [
        pytest.param("SIGTERM", "update", 5, id="SIGTERM at an update"),
        pytest.param("SIGINT", "update", 5, id="SIGINT at an update", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "validation", 5, id="SIGTERM in a validation", marks=pytest.mark.slow),
        pytest.param("SIGINT", "validation", 5, id="SIGINT in a validation", marks=pytest.mark.slow),
    ],
)
def test_a_second_signal_leaves_the_checkpoint_of_the_last_epoch(straight, here, capsys, name, moment, number):
    told = "lit-dcem: Stopped at once; --ckpt_path last resumes from update 4."
    assert stop(capsys, name, moment, number, times=2) == (CODES[name], told)
    assert_saved(folder("cartpole"), 4, [2, 4])
    main([*TRAINED, "--ckpt_path=last"])
    assert_same_run(straight, folder("cartpole"))


def test_a_second_signal_before_the_first_checkpoint_says_so(here, capsys):
    told = "lit-dcem: Stopped at once, before the first checkpoint to resume from."
    assert stop(capsys, "SIGINT", "update", 2, times=2) == (130, told)
    assert not (folder("cartpole") / "checkpoints/last.ckpt").exists()


def test_a_signal_does_not_save_weights_that_are_not_finite(here, capsys):
    told = "lit-dcem: Stopped after update 2, which was not saved: weights are NaN or infinite."
    trained = typed("cartpole", "--data.updates_per_epoch=4", "--model.optimizer.lr=1e36")
    assert stop(capsys, "SIGTERM", "step", 2, trained=trained) == (143, told)
    assert not list(folder("cartpole").glob("checkpoints/*"))


SLURM = {"JOB_ID": 4242, "JOB_NAME": "train", "NTASKS": 1, "NTASKS_PER_NODE": 1, "NNODES": 1, "NODELIST": "localhost"}
RANKS = {"PROCID": 0, "LOCALID": 0, "NODEID": 0}


@pytest.mark.parametrize(("name", "code"), [pytest.param("SIGTERM", 143, marks=pytest.mark.slow), ("SIGUSR1", 138)])
def test_slurm_ends_a_run_with_its_checkpoint_alone(straight, here, capsys, caplog, monkeypatch, name, code):
    """Lightning would answer SIGUSR1 by a checkpoint in this folder, from which every later run here would begin."""
    for variable, value in {**SLURM, **RANKS}.items():
        monkeypatch.setenv(f"SLURM_{variable}", str(value))
    handler = signal.getsignal(signal.SIGUSR1)
    assert stop(capsys, name, "step", 5)[0] == code
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert [path.name for path in here.iterdir()] == ["runs"]
    main([*TRAINED, "--ckpt_path=last"])
    assert "requeue" not in caplog.text and "`Trainer.fit` stopped" in caplog.text
    assert_same_run(straight, folder("cartpole"))
