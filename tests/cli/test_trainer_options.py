"""Good values of Lightning's options, as typed: each has its effect, or one sentence says why not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from support.command_runs import folder, typed

from lit_dcem import CartpoleEmbedding, CartpoleStates
from lit_dcem.cli.main import main
from lit_dcem.cli.resuming import check_trainer
from lit_dcem.planet.data import on_policy
from lit_dcem.planet.data.collector import Collector
from lit_dcem.training.curves import read_curves

pytestmark = pytest.mark.filterwarnings("ignore:There will be no videos")
SHORT = ["limit_train_batches=2", "limit_val_batches=1"]
CHEAP = {"cartpole": ["--model.init_args.validation_repeats=1", "--trainer.logger=false"]}
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ("phase2", "phase3", "joint")]
PLANET = [pytest.param("phase1", marks=pytest.mark.slow), *LATER]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "disabled")  # pictures would take longer than the rest
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which Lightning sets, and leaves
    yield
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)


def fit(experiment, *options, more=()):
    """Train for two epochs of two batches; the content of the last checkpoint, if there is one."""
    trainer = [f"--trainer.{option}" for option in (*SHORT, *options)]
    main(typed(experiment, *CHEAP.get(experiment, []), *trainer, *more))
    last = folder(experiment) / "checkpoints/last.ckpt"
    return torch.load(last, weights_only=True) if last.exists() else None


def validations(content):
    """The updates after which it validated."""
    return [row["step"] for row in content["callbacks"]["History"]["rows"]]


def refused(capsys, experiment, *options):
    """Exit code 2, and one sentence, which is returned; nothing is left."""
    with pytest.raises(SystemExit) as exit_:
        fit(experiment, *options)
    assert exit_.value.code == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lit-dcem: ")]
    assert not list(Path().rglob("version_*"))
    return sentence.removeprefix("lit-dcem: ")


@pytest.mark.parametrize("experiment", ["cartpole", "phase1", *LATER])
def test_a_fast_run_takes_its_batches_says_nothing_of_pictures_and_leaves_no_file(experiment, caplog):
    assert fit(experiment, "fast_dev_run=2") is None
    assert "will run the requested loop using 2 batch(es)" in caplog.text and "`max_steps=2` reached" in caplog.text
    assert not list(Path().iterdir())


@pytest.mark.parametrize("experiment", ["cartpole", *PLANET])
def test_accumulated_gradients_halve_the_updates(experiment):
    content = fit(experiment, "accumulate_grad_batches=2")
    assert content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 4
    assert content["global_step"] == 2 and validations(content) == [1, 2]


def test_the_loss_of_a_curve_is_that_of_a_batch_however_many_accumulate():
    """Lightning hands out what it has divided by their number; nothing is learned here."""
    losses = []
    for batches in (1, 2):
        content = fit("regression", f"accumulate_grad_batches={batches}", more=["--model.optimizer.init_args.lr=0"])
        losses.append([row["train/loss"] for row in content["callbacks"]["History"]["rows"]])
        shutil.rmtree("runs")
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0][0] > 0


@pytest.mark.parametrize("experiment", ["regression", *PLANET[:2]])
def test_shorter_epochs_have_one_length_and_each_is_validated(experiment):
    """Two batches of five, which is no divisor."""
    content = fit(experiment, "limit_train_batches=2", "max_epochs=3")
    assert content["epoch"] == 3 and validations(content) == [2, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["phase3", "joint"])
def test_shorter_epochs_change_no_step_of_ppo(experiment):
    """A step of PPO has three batches, an epoch three or two."""
    options = {"data.num_batches": 3, "data.passes": 1, "trainer.check_val_every_n_epoch": 9}
    options |= {"model.policy_gradient.value_steps": 0, "model.policy_gradient.max_kl": "null"}
    more = [f"--{name}={value}" for name, value in options.items()]
    fit(experiment, "limit_train_batches=3", "max_epochs=2", more=more)
    fit(experiment, "limit_train_batches=2", "max_epochs=3", more=more)
    whole, short = (read_curves(folder(experiment, version) / "curves.csv") for version in (0, 1))
    for name in ("train/ratio", "train/policy_kl", "train/value"):
        assert len(whole[name].values) == 6
        np.testing.assert_array_equal(short[name].values, whole[name].values)


@pytest.mark.parametrize("experiment", ["plateau", *PLANET])
def test_a_plateau_is_looked_for_where_there_is_a_validation(experiment):
    schedule = ["--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.mode=max"]
    more = schedule if experiment != "plateau" else []
    content = fit(experiment, "max_epochs=4", "check_val_every_n_epoch=2", more=more)
    (scheduler,) = content["lr_schedulers"]
    assert len(validations(content)) == scheduler["last_epoch"] == 2  # which counts its steps


@pytest.mark.parametrize("experiment", ["cartpole", *PLANET])
def test_validations_within_an_epoch(experiment):
    assert validations(fit(experiment, "val_check_interval=1")) == [1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")  # by which best.ckpt would be chosen
@pytest.mark.parametrize("experiment", ["cartpole", *PLANET])
def test_a_run_without_validations_keeps_its_last_checkpoint(experiment):
    content = fit(experiment, "limit_val_batches=0")
    assert content["global_step"] == 4 and not validations(content)
    assert [path.name for path in folder(experiment).glob("checkpoints/*")] == ["last.ckpt"]


def test_a_sanity_check_is_no_validation_of_the_run(monkeypatch):
    seen, validate = [], CartpoleEmbedding.validation_step
    spy = lambda self, *given: seen.append(self.trainer.sanity_checking) or validate(self, *given)  # noqa: E731
    monkeypatch.setattr(CartpoleEmbedding, "validation_step", spy)
    assert validations(fit("cartpole", "num_sanity_val_steps=1")) == [2, 4]
    assert seen == [True, False, False]


@pytest.mark.parametrize("experiment", ["cartpole", *PLANET])
def test_a_run_ends_at_its_time(experiment, caplog):
    content = fit(experiment, "max_time=00:00:00:01", "max_epochs=-1")
    assert "Time limit reached" in caplog.text and content["global_step"] >= 1


@pytest.mark.parametrize("experiment", ["cartpole", *PLANET[:1]])
@pytest.mark.parametrize(
    ("option", "is_on"),
    [("detect_anomaly", torch.is_anomaly_enabled), ("deterministic", torch.are_deterministic_algorithms_enabled)],
)
def test_torch_is_told_to_look_for_nan_or_to_repeat(experiment, option, is_on, monkeypatch):
    seen, backward = [], torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a, **k: seen.append(is_on()) or backward(*a, **k))
    assert fit(experiment, f"{option}=true", "max_epochs=1")["global_step"] == 2
    assert seen and all(seen)


def test_a_profiler_reports_what_took_the_time(caplog):
    assert fit("cartpole", "profiler=simple", "max_epochs=1")["global_step"] == 2
    assert "FIT Profiler Report" in caplog.text and "CartpoleEmbedding.configure_optimizers" in caplog.text


@pytest.mark.parametrize("experiment", ["cartpole", pytest.param("phase1", marks=pytest.mark.slow)])
def test_gradients_are_clipped_by_value(experiment):
    """By norm, the largest of many would be smaller than the bound."""
    options = "gradient_clip_algorithm=value", "gradient_clip_val=1e-6", "limit_train_batches=1", "max_epochs=1"
    (state,) = fit(experiment, *options)["optimizer_states"]
    largest = max(each["exp_avg"].abs().max().item() for each in state["state"].values())
    assert largest == pytest.approx(0.1 * 1e-6, rel=1e-4)  # Adam's mean of one update


@pytest.mark.parametrize(
    ("experiment", "kind"),
    [
        ("phase2", "PlanetPhase2"),
        *(pytest.param(name, f"Planet{name.title()}", marks=pytest.mark.slow) for name in ("phase3", "joint")),
    ],
)
def test_clipping_by_value_is_refused_before_anything_is_collected_where_groups_are_clipped_apart(
    experiment, kind, capsys, monkeypatch
):
    monkeypatch.setattr(Collector, "step", None)
    monkeypatch.setattr(on_policy, "collect", None)  # called, either would be another sentence
    says = refused(capsys, experiment, "gradient_clip_algorithm=value")
    assert says == f"{kind} clips gradients by norm, got gradient_clip_algorithm value."


@pytest.mark.parametrize("experiment", ["cartpole", "phase1"])
def test_batches_are_not_repeated_to_overfit_them(experiment, capsys):
    rule = "trainer.overfit_batches must be 0, as every epoch has new batches (limit_train_batches shortens epochs)"
    assert refused(capsys, experiment, "overfit_batches=1") == f"{rule}, got 1."


def test_data_of_ones_own_may_be_overfitted():
    class OwnStates(CartpoleStates):
        pass

    check_trainer(Namespace(overfit_batches=1), OwnStates)
