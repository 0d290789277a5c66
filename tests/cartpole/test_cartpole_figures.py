"""Figures 2, 7, 8, 9 and 10 draw what they should from runs and tables, and TensorBoard gets its pictures."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_dcem import DCEM, ActionDecoder, CartpoleEmbedding, CartpoleStates
from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.cartpole.figures import curves, gradient
from lit_dcem.cartpole.figures.initial import initial_outputs
from lit_dcem.cartpole.figures.plots import CartpolePlots, picture
from lit_dcem.cartpole.figures.search import latent_search, search_iterations
from lit_dcem.cartpole.figures.surfaces import cost_surfaces, surface
from lit_dcem.cartpole.pca import PCAPlanner
from lit_dcem.cartpole.planners import FullSpacePlanner
from lit_dcem.cartpole.states import validation_states
from lit_dcem.cli.figure import draw
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.training.statistics import mean_and_interval

ROOT = Path(__file__).parents[2]
STATES = validation_states()[:2]


@pytest.fixture(scope="module")
def run(made_once):
    """A short run of a small decoder; its folder."""
    configs = ["--config", str(ROOT / "configs/cartpole.yaml"), "--config", str(ROOT / "configs/debug.yaml")]
    small = ["--model.init_args.decoder.init_args.hidden_dim=8", "--trainer.accelerator=cpu"]
    return made_once("cartpole_to_draw", lambda: main(["fit", *configs, *small])) / "runs/cartpole/version_0"


@pytest.fixture(scope="module")
def pca(tmp_path_factory):
    """Weights of a PCA of made-up forces."""
    planner = PCAPlanner(FullSpacePlanner(DCEM()))
    planner.fit_to(50 * torch.randn(30, 20, generator=torch.Generator().manual_seed(0)))
    path = tmp_path_factory.mktemp("pca") / "pca.pt"
    torch.save(planner.state_dict(), path)
    return path


def module(latent_dim: int = 2) -> CartpoleEmbedding:
    """Its training solver has few candidates, and differentiates one iteration only."""
    torch.manual_seed(0)
    training = DCEM(num_candidates=6, num_elites=3, num_iterations=2, lower=-1.0, upper=1.0, grad_iterations=1)
    decoder = ActionDecoder(latent_dim, 20, hidden_dim=8, lower=-100.0, upper=100.0)
    return CartpoleEmbedding(decoder, DCEM(num_iterations=2), training)


def axes(figure: Figure, count: int):
    """The panels, without colour bars, after the figure was laid out."""
    figure.draw_without_rendering()
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert len(panels) == count
    return panels


def curve_rows(costs: dict[int, list[float]], temperature: float = 1.0) -> list[dict[str, float]]:
    """Of d = 2: for each seed its costs at updates 100, 200, .."""
    return [
        dict(zip(curves.CURVE_COLUMNS, (2, temperature, seed, 100 * (i + 1), cost + 1, cost), strict=True))
        for seed, values in costs.items()
        for i, cost in enumerate(values)
    ]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    return path


def test_searches_are_drawn_on_the_plane_and_as_forces():
    panels = axes(search_iterations(module(), STATES[0]), 12)
    assert [panel.get_title() for panel in panels[:4]] == [f"iteration {i}" for i in (0, 3, 6, 9)]
    for panel in panels[:8]:
        assert len(panel.lines) == 100
        assert all(len(line.get_ydata()) == 20 for line in panel.lines)
    candidates = latent_search(module(), STATES[0])[3].candidates[0]
    torch.testing.assert_close(torch.as_tensor(panels[9].collections[0].get_offsets().data).float(), candidates)


def test_search_of_a_larger_latent_space_has_no_surface():
    axes(search_iterations(module(latent_dim=3), STATES[0], DCEM(temperature=0.0)), 8)


def test_a_bar_follows_the_drawing_of_searches(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("lit_dcem.training.progress.Console", lambda **_: terminal)
    search_iterations(module(latent_dim=3), STATES[0])
    assert "iterations" in terminal.file.getvalue()


def test_search_has_the_papers_size_and_leaves_the_generator_alone():
    embedding, before = module(), torch.get_rng_state()
    iterations = latent_search(embedding, STATES[0])
    assert len(iterations) == 10 and iterations[0].candidates.shape == (1, 100, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_initial_outputs_leave_the_middle_as_the_scale_grows():
    panels = axes(initial_outputs(), 12)
    assert {len(panel.lines) for panel in panels} == {100}
    for row in (panels[:4], panels[4:8], panels[8:]):
        spreads = [abs(np.array([line.get_ydata() for line in panel.lines]) - 0.5).mean() for panel in row]
        assert spreads == sorted(spreads)
        assert spreads[0] < 0.1


def test_star_is_at_the_cheapest_point():
    class Push:
        """Constant forces of 100 z1 + 50 z2 newtons: the surface is a valley known from a scan over forces."""

        def decode(self, latents, states):
            return (latents @ torch.tensor([100.0, 50.0])).unsqueeze(-1).expand(*latents.shape[:-1], 20)

    panels = axes(cost_surfaces({"a": Push(), "b": module()}, STATES), 4)
    assert [panel.get_title() for panel in panels[:2]] == ["a", "b"]
    for panel, state in zip(panels[::2], STATES, strict=True):
        ((z1, z2),) = panel.lines[0].get_xydata()
        forces = torch.linspace(-150, 150, 301)
        costs = rollout_cost(state, forces.unsqueeze(-1).expand(-1, 20))
        assert 100 * z1 + 50 * z2 == pytest.approx(forces[costs.argmin()].item(), abs=1.1)
        assert float(panel.texts[0].get_text()) == pytest.approx(costs.min().item(), abs=0.1)


def test_surface_has_the_first_latent_across():
    class Corner:
        def decode(self, latents, states):
            return 1e4 * (latents != torch.tensor([1.0, -1.0])).any(-1, keepdim=True).expand(-1, 20)

    costs = surface(Corner(), STATES[0], points=5)
    assert costs.argmin() == 4  # row z2 = -1, column z1 = 1


def test_interval_is_students():
    assert mean_and_interval([1.0, 2.0, 3.0]) == pytest.approx((2, 4.302652729911275 / math.sqrt(3)))
    assert mean_and_interval([0.0, 2.0] * 6)[1] == pytest.approx(2.200985160082949 / math.sqrt(11))
    assert math.isnan(mean_and_interval([1.0])[1])


def test_curves_are_means_over_seeds_with_intervals():
    rows = curve_rows({0: [5, -1], 1: [6, -2], 2: [7, -3]}) + curve_rows({0: [4, math.nan]}, temperature=0.1)
    training, validation = axes(curves.learning_curves(rows), 2)
    assert validation.get_xscale() == "log"
    hot, cold, expert = validation.lines
    assert hot.get_xydata().tolist() == [[100, 6], [200, -2]]
    assert cold.get_xydata().tolist() == [[100, 4]]
    assert list(expert.get_ydata()) == [-9.05, -9.05]
    assert training.lines[0].get_xydata().tolist() == [[100, 7], [200, -1]]
    reach = 4.3027 / math.sqrt(3)
    heights = validation.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((-2 - reach, 6 + reach), rel=1e-3)


def test_curves_of_less_than_a_decade_have_ticks_and_room():
    rows = curve_rows({0: [-9.0, -9.5, -10.0, -10.5], 1: [-9.1, -9.6, -10.1, -10.6]})
    rows = [{**row, "train/loss": row["train/loss"] * 3} for row in rows]
    figure = curves.learning_curves(rows)
    training, validation = axes(figure, 2)
    figure.canvas.draw()
    assert {"100", "200"} <= {label.get_text() for label in validation.get_xticklabels()}
    low, high = validation.get_ylim()
    assert low > -12 and high < -8 and training.get_ylim()[0] < low


def test_training_cost_is_smoothed_over_a_tenth():
    rows = curve_rows({0: [float(i % 2) for i in range(40)]})
    training, validation = axes(curves.learning_curves(rows), 2)
    costs = training.lines[0].get_ydata()
    assert costs[0] == 1 and costs[-1] == pytest.approx(1.5, abs=0.15)
    assert validation.lines[0].get_ydata()[-1] == 1


def test_factors_show_seeds_mean_and_paper():
    rows = [dict(zip(curves.RESULT_COLUMNS, (8.0, 1.0, factor), strict=True)) for factor in (1.0, 1.1, 1.2)]
    (panel,) = axes(curves.improvement_factors(rows), 1)
    heights = [list(line.get_ydata()) for line in panel.lines]
    assert [1, 1] in heights
    assert [1.0, 1.1, 1.2] in heights
    assert [1.18] in heights
    (mean,) = panel.containers[0][0].get_ydata()
    assert mean == pytest.approx(1.1)
    (bar,) = panel.containers[0][2][0].get_segments()
    assert bar[1, 1] - mean == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-3)


def study_row(temperature=1.0, candidates=8, loss="{'answer': 1.0, 'best': 0.0}", trained=-7.0, hard=-8.0):
    numbers = dict(zip(gradient.COLUMNS, (5, candidates, 4, temperature, trained, hard), strict=True))
    return {**numbers, "loss": loss}


def test_study_shows_costs_against_trajectories(tmp_path):
    both = "{'answer': 1.0, 'best': 1.0}"
    rows = [study_row(hard=cost) for cost in (-8.0, -7.0, -9.0)] + [study_row(candidates=80, hard=-10.0)]
    rows += [study_row(temperature=0.0), study_row(loss=both)]
    panels = axes(gradient.search_costs(gradient.read_study(write(tmp_path / "results.csv", rows))), 4)
    titles = [panel.get_title().partition("loss: ")[2] for panel in panels[:2]]
    assert titles == ["answer", "answer, best"]
    hot, cold = panels[2].containers
    at, costs = hot[0].get_data()
    assert costs.tolist() == [-8, -10] and at == pytest.approx([32, 320], rel=0.05)
    (bar, lonely) = hot[2][0].get_segments()
    assert bar[1, 1] + 8 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-3) and lonely[0, 1] == lonely[1, 1] == -10
    assert cold[0].get_ydata().tolist() == [-8] and cold.get_label() == "temperature 0"
    assert panels[0].containers[0][0].get_ydata().tolist() == [-7, -7]


@pytest.mark.parametrize("number", ["2", "7", "8", "9", "10", "gradient"])
def test_figures_are_written(run, pca, tmp_path, number):
    write(tmp_path / "curves.csv", [{**row, "seconds": ""} for row in curve_rows({0: [5, -1], 1: [6, -2]})])
    row = dict(zip(curves.RESULT_COLUMNS, (2, 1.0, 1.08), strict=True))
    write(tmp_path / "results.csv", [row, {**row, "val/improvement": ""}])
    runs = {"2": [run], "7": None, "8": [tmp_path], "9": [tmp_path / "results.csv"], "10": [pca, run, run]}
    runs = {**runs, "gradient": [write(tmp_path / "study.csv", [study_row()])]}[number]
    out = draw(number, runs and [str(each) for each in runs], str(tmp_path / "new" / f"{number}.png"))
    assert out.stat().st_size > 10_000


def test_bad_input_is_said_in_one_sentence(run, pca, tmp_path):
    regression = str(ROOT / "checkpoints/regression_gd_0.ckpt")
    row = dict(zip(curves.RESULT_COLUMNS, (2, 1.0, 1.08), strict=True))
    short = write(tmp_path / "short.csv", [{"latent_dim": 2, "temperature": 1}])
    word = write(tmp_path / "word.csv", [{**row, "val/improvement": "good"}])
    loss = write(tmp_path / "loss.csv", [study_row(loss="3")])
    empty = write(tmp_path / "empty.csv", [{**row, "val/improvement": ""}])
    for number, runs, pattern in [
        ("0", None, "must be one of 1, 2, 3, .*, 15, gradient, hours, trajectories, got 0"),
        ("2", [regression], "CartpoleEmbedding, got EnergyRegression"),
        ("2", [str(run), str(run)], "single --run, got 2"),
        ("2", [str(pca)], "not a checkpoint of Lightning"),
        ("7", [str(run)], "takes no --run"),
        ("8", [str(run)], "curves.csv must have the columns latent_dim, .*, got none called latent_dim"),
        ("8", [regression], "readable CSV file"),
        ("9", [str(short)], "short.csv must have the columns .*, got none called val/improvement"),
        ("9", [str(word)], "val/improvement must be a number in every row of .*word.csv, got good"),
        ("9", [str(empty)], "validated runs, got none in .*empty.csv"),
        ("gradient", [str(word)], "word.csv must have the columns .*, got none called condition_dim"),
        ("gradient", [str(loss)], "loss must map its parts to weights in every row of .*loss.csv, got 3"),
        ("10", [regression], "CartpoleEmbedding, got EnergyRegression"),
        ("10", [str(tmp_path / "none.pt")], "A checkpoint must be a file, a run folder"),
    ]:
        with pytest.raises(UsageError, match=pattern) as caught:
            draw(number, runs, str(tmp_path / "x.png"))
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_rows_of_failed_runs_and_without_a_number_are_left_out(tmp_path):
    cells = [("1e-3", "done"), ("", "done"), ("nan", "out of time"), ("2", "failed")]
    path = write(tmp_path / "a.csv", [{"a": a, "train/loss": "", "status": status} for a, status in cells])
    (row,) = curves.read_table(path, ["a", "train/loss"])
    assert row["a"] == 1e-3 and math.isnan(row["train/loss"])


def fit(folder: Path, callbacks: list[pl.Callback]) -> CartpoleEmbedding:
    embedding = module()
    pl.Trainer(
        max_epochs=3, logger=TensorBoardLogger(folder, "", ""), callbacks=callbacks, accelerator="cpu",
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False, log_every_n_steps=1,
    ).fit(embedding, CartpoleStates(batch_size=2, updates_per_epoch=2, seed=0))  # fmt: skip
    return embedding


def test_pictures_are_logged_and_change_no_training(tmp_path):
    drawn, plain = fit(tmp_path / "drawn", [CartpolePlots(2)]), fit(tmp_path / "plain", [])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, drawn.state_dict()[name])
    events = EventAccumulator(str(tmp_path / "drawn")).Reload()
    costs = [event.step for event in events.Scalars("val/cost")]
    assert [image.step for image in events.Images("pictures/search")] == costs[::2]  # epochs 0 and 2, no sanity check


def test_picture_has_a_surface_for_a_plane_only():
    forces, last, plane = axes(picture(module()), 3)
    assert len(forces.lines) == len(last.lines) == 100
    assert len(plane.images) == 1
    axes(picture(module(latent_dim=3).double()), 2)


def test_picture_of_no_epoch_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        CartpolePlots(0)
