"""The regression experiment: learns, measures, and runs on other devices and precisions."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from lit_dcem import DCEM, EnergyNetwork, EnergyRegression, RegressionData, UnrolledGD
from lit_dcem.cli.main import main
from lit_dcem.training.checkpoint import Checkpoint

SOLVERS = {"dcem": DCEM(num_candidates=20, num_elites=4, num_iterations=4), "gd": UnrolledGD(num_steps=4)}


def module(solver="dcem", **options):
    torch.manual_seed(0)
    return EnergyRegression(SOLVERS[solver], EnergyNetwork(hidden_dim=16), validation_iterations=(1, 4, 6), **options)


def trainer(path, **options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(default_root_dir=path, accelerator="cpu", inference_mode=False, **{**quiet, **options})


@pytest.mark.parametrize("solver", ["dcem", "gd"])
def test_training_lowers_the_error(tmp_path, solver):
    model = module(solver, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2))
    data = RegressionData(batch_size=50, updates_per_epoch=40, seed=0)
    run = trainer(tmp_path, max_epochs=2)
    before = run.validate(model, data, verbose=False)[0]["val/mse"]
    run.fit(model, data)
    after = run.validate(model, data, verbose=False)[0]["val/mse"]
    assert after < before / 2


@pytest.mark.parametrize("solver", ["dcem", "gd"])
def test_measures_every_number_of_iterations(tmp_path, solver):
    metrics = trainer(tmp_path).validate(module(solver), RegressionData(), verbose=False)[0]
    assert metrics.keys() == {"val/mse", "val/mse_1", "val/mse_4", "val/mse_6"}
    assert metrics["val/mse"] == pytest.approx(metrics["val/mse_4"], rel=0.5)


def test_validation_repeats_its_noise_and_leaves_the_generator_alone(tmp_path):
    model, run = module(), trainer(tmp_path)
    state = torch.get_rng_state()
    first = run.validate(model, RegressionData(seed=0), verbose=False)
    assert first == run.validate(model, RegressionData(seed=0), verbose=False)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("solver", ["dcem", "gd"])
def test_iterates_end_with_the_prediction(solver):
    model, x = module(solver), torch.linspace(0, 6, 5).unsqueeze(1)
    torch.manual_seed(1)
    path = model.iterates(x, 4)
    torch.manual_seed(1)
    assert path.shape == (5, 5, 1)
    assert torch.equal(path[0], torch.zeros(5, 1))
    torch.testing.assert_close(path[-1], model(x))


def test_learning_rate_halves_on_a_plateau(tmp_path):
    def halving(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1e9)

    model = module(optimizer=torch.optim.SGD, lr_scheduler=halving)
    run = trainer(tmp_path, max_epochs=3)
    run.fit(model, RegressionData(batch_size=2, updates_per_epoch=1, seed=0))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 8)


@pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")
def test_bfloat16_mixed(tmp_path):
    run = trainer(tmp_path, max_epochs=1, precision="bf16-mixed")
    run.fit(module(), RegressionData(batch_size=10, updates_per_epoch=3, seed=0))
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in run.lightning_module.parameters())


def test_loss_discounts_the_last_iterates():
    model, x = module(loss_iterations=3, loss_discount=0.5), torch.linspace(0, 6, 5).unsqueeze(1)
    torch.manual_seed(1)
    loss = model.loss(x, x.sin())
    torch.manual_seed(1)
    errors = (model.iterates(x, 4) - x.sin()).square().mean((1, 2))
    torch.testing.assert_close(loss, (errors[-1] + errors[-2] / 2 + errors[-3] / 4) / 1.75)


def test_gradient_of_the_loss_comes_from_the_training_solver():
    hard = SOLVERS["dcem"].replace(temperature=0.0)
    x = torch.linspace(0, 6, 5).unsqueeze(1)
    assert module(training_solver=None).loss(x, x).requires_grad
    assert not module(training_solver=hard).loss(x, x).requires_grad


def test_repeated_validation_is_the_mean_over_noise(tmp_path):
    def validate(repeats):
        return trainer(tmp_path).validate(module(validation_repeats=repeats), RegressionData(), verbose=False)[0]

    model, data = module(), RegressionData()
    x, y = next(iter(data.val_dataloader()))
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        errors.append((model(x) - y).square().mean().item())
    assert validate(3)["val/mse"] == pytest.approx(sum(errors) / 3, rel=1e-5)
    assert validate(1)["val/mse"] == pytest.approx(errors[0], rel=1e-5)


@pytest.mark.parametrize("option", [{"loss_iterations": 0}, {"loss_discount": 0.0}, {"validation_repeats": 0}])
def test_impossible_options_are_refused(option):
    with pytest.raises(ValueError, match=r"must be at least 1|in \(0, 1\]"):
        module(**option)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_training_learns_like_eager(tmp_path):
    errors = []
    for compiled in (False, True):
        model = module(compile=compiled, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2))
        data, run = RegressionData(batch_size=50, updates_per_epoch=40, seed=0), trainer(tmp_path, max_epochs=2)
        run.fit(model, data)
        errors.append(run.validate(model, data, verbose=False)[0]["val/mse"])
    assert errors[1] == pytest.approx(errors[0], rel=0.5)


@pytest.mark.slow
def test_shipped_config_learns_x_sin_x(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(Path(__file__).parents[2] / "configs/regression.yaml")
    main(["fit", "--config", config, "--trainer.max_epochs=12", "--trainer.accelerator=cpu"])
    rows = Checkpoint.read("runs/regression/version_0/checkpoints/best.ckpt").history
    assert min(row["val/mse"] for row in rows) < 2e-3
