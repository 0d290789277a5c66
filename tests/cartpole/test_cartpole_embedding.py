"""The cartpole experiment: gradients through the search, what it measures, and that it learns."""

import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.testing import assert_close

from lit_dcem import DCEM, ActionDecoder, CartpoleEmbedding, CartpoleStates, EmbeddingLoss
from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.cartpole.states import validation_states
from lit_dcem.cli.main import main
from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.history import History

ROOT = Path(__file__).parents[2]
SMALL = {"num_candidates": 12, "num_elites": 3, "num_iterations": 3, "lower": -1.0, "upper": 1.0}
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def module(temperature=1.0, **options):
    torch.manual_seed(0)
    decoder = ActionDecoder(2, 20, hidden_dim=16, num_layers=2, init_scale=2.0, lower=-100.0, upper=100.0)
    return CartpoleEmbedding(decoder, DCEM(**SMALL, temperature=temperature), **options)


def trainer(path, **options):
    options = {"enable_checkpointing": False, "inference_mode": False, **QUIET, **options}
    return pl.Trainer(default_root_dir=path, **options)


def loss_of(model, states, seed=1):
    torch.manual_seed(seed)
    return model.loss(states)


@pytest.mark.parametrize("options", [{}, {"iterations": 2, "discount": 0.5}], ids=["last", "last two"])
def test_gradient_through_the_search_is_that_of_finite_differences(options):
    model, states = module(loss=EmbeddingLoss(**options)).double(), validation_states()[:3].double()
    loss_of(model, states).backward()
    for parameter in model.decoder.parameters():
        assert parameter.grad is not None
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        index = slope.abs().argmax()
        kept, step = flat[index].clone(), 1e-6
        ends = []
        for sign in (1, -1):
            flat[index] = kept + sign * step
            ends.append(loss_of(model, states).item())
        flat[index] = kept
        assert_close(slope[index].item(), (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_without_temperature_the_gradient_is_that_of_the_cost_at_the_answer():
    model, states = module(temperature=0.0), validation_states()[:3]
    loss_of(model, states).backward()
    through_module = [parameter.grad for parameter in model.decoder.parameters()]
    torch.manual_seed(1)
    with torch.no_grad():
        answer = model.solve(states).mean
    cost = rollout_cost(states, model.decode(answer).unsqueeze(1)).mean()
    assert_close(through_module, list(torch.autograd.grad(cost, list(model.decoder.parameters()))))


def test_plans_forces_within_bounds_for_each_state():
    forces = module()(validation_states()[:4])
    assert forces.shape == (4, 20)
    assert forces.abs().max() <= 100


def test_the_best_point_met_is_no_worse_than_the_mean():
    states = validation_states()[:10]
    costs = {}
    for answer in ("mean", "best"):
        torch.manual_seed(2)
        costs[answer] = rollout_cost(states, module(answer=answer)(states).unsqueeze(1))
    assert (costs["best"] <= costs["mean"] + 1e-4).all()


def test_validation_is_the_mean_over_solver_seeds_and_leaves_the_generator_alone(tmp_path):
    model = module(validation_repeats=3)
    state = torch.get_rng_state()
    metrics = trainer(tmp_path).validate(model, CartpoleStates(seed=0), verbose=False)[0]
    assert torch.equal(state, torch.get_rng_state())
    assert metrics.keys() == {name for name in CartpoleEmbedding.metrics if name.startswith("val/")}
    costs = []
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            costs.append(rollout_cost(validation_states(), model(validation_states()).unsqueeze(1)).mean())
    assert metrics["val/cost"] == pytest.approx(sum(costs).item() / 3, rel=1e-5)
    assert metrics["val/improvement"] == pytest.approx(metrics["val/cost"] / -9.05, rel=1e-5)
    assert metrics["val/cost_paper"] != metrics["val/cost"]


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_training_lowers_the_cost(tmp_path, temperature):
    model = module(temperature, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3))
    run, history = trainer(tmp_path), History()
    before = run.validate(model, CartpoleStates(seed=0), verbose=False)[0]["val/cost"]
    run = trainer(tmp_path, max_epochs=2, gradient_clip_val=1.0, callbacks=[history])
    run.fit(model, CartpoleStates(batch_size=8, updates_per_epoch=30, seed=0))
    assert history.rows[-1]["val/cost"] < before - 1
    assert history.rows[-1]["train/loss"] < history.rows[0]["train/loss"]


def test_a_run_goes_on_with_the_decoder_of_another(tmp_path, monkeypatch):
    """Here a shipped one, which no update changes at a learning rate of 0."""
    monkeypatch.chdir(tmp_path)
    configs = [f"--config={ROOT / 'configs' / name}.yaml" for name in ("cartpole", "debug")]
    still = ["--model.init_args.optimizer.init_args.lr=0", "--model.init_args.lr_scheduler=null"]
    start = "--model.init_args.start=checkpoints/cartpole_d2_0.ckpt"
    main(["fit", *configs, start, *still, "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"])
    theirs = read_checkpoint(ROOT / "checkpoints/cartpole_d2_0.ckpt")["state_dict"]
    ours = read_checkpoint("runs/cartpole/version_0/checkpoints/last.ckpt")
    assert_close(ours["state_dict"], theirs, rtol=1e-6, atol=1e-8)  # the moving average rounds
    costs = Checkpoint.read("runs/cartpole/version_0").history[-1]
    assert costs["val/cost_hard"] < costs["val/cost_trained"]


@pytest.mark.parametrize(("epochs", "every"), [(3, 1), (6, 2)])
def test_plateau_of_the_validation_cost_halves_the_learning_rate(tmp_path, epochs, every):
    def halving(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1e9)

    run = trainer(tmp_path, max_epochs=epochs, limit_val_batches=1, check_val_every_n_epoch=every)
    run.fit(module(optimizer=torch.optim.SGD, lr_scheduler=halving), CartpoleStates(2, updates_per_epoch=1, seed=0))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 8)


@pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")
def test_bfloat16_mixed(tmp_path):
    run = trainer(tmp_path, max_epochs=1, precision="bf16-mixed")
    run.fit(module(), CartpoleStates(4, updates_per_epoch=2, seed=0))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"validation_repeats": 0}, "validation_repeats must be at least 1, got 0."),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        module(**options)


def test_a_decoder_that_sees_the_state_plans_for_each_state():
    torch.manual_seed(0)
    decoder = ActionDecoder(2, 20, hidden_dim=16, init_scale=2.0, lower=-100.0, upper=100.0, condition_dim=5)
    model, states = CartpoleEmbedding(decoder, DCEM(**SMALL)), validation_states()[:3]
    latents = torch.rand(3, 7, 2)
    costs = model.objective(states)(latents)
    for state, points, cost in zip(states, latents, costs, strict=True):
        assert_close(cost, rollout_cost(state, decoder(points, state).squeeze(-1)), rtol=1e-5, atol=1e-4)
    assert model(states).shape == (3, 20)
    model.loss(states).backward()
    assert decoder.condition.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{"condition_dim": 4}, {"blends_rest": True}])
def test_other_conditions_of_the_decoder_are_refused(options):
    with pytest.raises(ValueError, match="condition_dim 0 or 5, and no blends_rest, got"):
        CartpoleEmbedding(ActionDecoder(2, 20, **options), DCEM())


def test_a_decoder_of_two_forces_is_refused():
    with pytest.raises(ValueError, match="action_dim must be 1, got 2"):
        CartpoleEmbedding(ActionDecoder(2, 20, action_dim=2), DCEM())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"answer": 0.0}, "not all 0, got"),
        ({"best": -1.0}, "at least 0"),
        ({"num_elites": 0}, "num_elites must be at least 1, got 0."),
        ({"iterations": 0}, "must be at least 1 and its discount"),
    ],
)
def test_losses_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        EmbeddingLoss(**options)


def test_loss_is_the_weighted_mean_of_its_parts():
    states, model = validation_states()[:3], module()
    objective = model.objective(states)
    solution = model.solve(states, model.solver.replace(trace=True))
    values = torch.cat([iteration.values.topk(4, 1, largest=False).values for iteration in solution.trace], 1)
    answer, best, elites = solution.value.mean(), solution.best_value.mean(), values.mean()
    loss = EmbeddingLoss(answer=0.5, best=2.0, elites=1.0, num_elites=4)(objective, solution)
    assert_close(loss, (0.5 * answer + 2 * best + elites) / 3.5)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_broken_candidates_are_no_elites(broken):
    def objective(points):
        return torch.where(points[..., 0] > -1.0, broken, points.square().sum(-1))

    solver = DCEM(num_candidates=20, num_elites=4, num_iterations=3, temperature=0.0, trace=True)
    solution = solver(objective, torch.zeros(2, 2), torch.ones(2, 2))  # a sixth of the first candidates are whole
    loss = EmbeddingLoss(answer=0.0, elites=1.0, num_elites=10)(objective, solution)
    assert loss.isfinite() and loss >= 1.0


def test_best_candidate_and_elites_are_taken_as_they_are():
    states, model = validation_states()[:3], module()
    objective = model.objective(states)
    solution = model.solve(states, model.solver.replace(trace=True))
    EmbeddingLoss(answer=0.0, best=1.0)(objective, solution).backward()
    through_loss = [parameter.grad for parameter in model.decoder.parameters()]
    cost = objective(solution.best.detach().unsqueeze(1)).mean()
    assert_close(through_loss, list(torch.autograd.grad(cost, list(model.decoder.parameters()))))


@pytest.mark.slow
def test_shipped_config_beats_the_expert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(ROOT / "configs/cartpole.yaml")
    main(["fit", "--config", config, "--trainer.max_epochs=8", "--trainer.accelerator=cpu"])
    rows = Checkpoint.read("runs/cartpole/version_0/checkpoints/best.ckpt").history
    assert min(row["val/cost"] for row in rows) < -9.6


@pytest.mark.slow
def test_shipped_config_of_dcem_learns_through_bounded_gradients(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", "cartpole_dcem", "--trainer.max_epochs=8", "--trainer.accelerator=cpu"])
    rows = Checkpoint.read("runs/cartpole_dcem/version_0/checkpoints/best.ckpt").history
    assert min(row["val/cost"] for row in rows) < -9.8  # without the bound, this seed has -9.58 after 1,000 updates
