"""Every example runs, and what it prints is good."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.strict import STRICT_PYTHON

FOLDER = Path(__file__).parents[1] / "examples"
PAGES = FOLDER.parent / "docs" / "recipes"
RECIPES = {
    "bilevel_with_penalty",
    "cheaper_planner",
    "energy_for_set_valued_targets",
    "integer_design",
    "mppi_obstacles",
}
COVERED = {"planning_with_your_own_model", "differentiable_mpc", "mujoco_mpc"} | RECIPES


def printed(name, *options, cwd):
    command = [*STRICT_PYTHON, str(FOLDER / f"{name}.py"), *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def example(name):
    """An example as a module; a process of its own would take seconds to import torch."""
    return importlib.import_module(name)


@pytest.fixture
def lines(monkeypatch, capsys):
    """What an example prints, run here: the numbers of each line."""

    def run(name, *options):
        monkeypatch.setattr(sys, "argv", [name, *options])
        example(name).main()
        return [numbers(line) for line in capsys.readouterr().out.splitlines()]

    return run


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == COVERED


def test_every_recipe_has_a_page_that_shows_its_code():
    pages = [page for page in PAGES.glob("*.md") if page.stem != "index"]
    assert {page.stem for page in pages} == COVERED
    for page in pages:
        shown = re.findall(r"```\{literalinclude\} (\S+)\n:pyobject: (\S+)\n", page.read_text())
        assert shown and "```python" not in page.read_text()
        for path, name in shown:
            assert (page.parent / path).resolve() == FOLDER / f"{page.stem}.py"
            assert re.search(rf"^(def|class) {name}\b", (page.parent / path).read_text(), re.MULTILINE)


@pytest.mark.slow
def test_points_arrive_around_obstacles(tmp_path):
    arrived, count, clearance = numbers(printed("planning_with_your_own_model", cwd=tmp_path))
    assert arrived == count == 6 and clearance > 0


@pytest.mark.slow
def test_the_weight_of_the_expert_is_learned(tmp_path):
    *_, last = printed("differentiable_mpc", cwd=tmp_path).splitlines()
    learned, expert = numbers(last)
    assert learned == pytest.approx(expert, rel=0.15)


def test_a_cheetah_begins_to_run(tmp_path):
    options = ("--steps=60", "--horizon=12", "--candidates=20", "--elites=5", "--iterations=2", "--threads=1")
    first, *_ = printed("mujoco_mpc", *options, cwd=tmp_path).splitlines()
    seed, earned, steps = numbers(first)
    assert (seed, steps) == (0, 60) and earned > 4


@pytest.mark.slow
def test_a_cheetah_runs(tmp_path):
    _, earned, steps = numbers(printed("mujoco_mpc", "--threads=1", cwd=tmp_path).splitlines()[0])
    assert earned > 700 and steps == 1000


def test_a_penalty_slightly_above_the_multiplier_is_exact_and_a_large_one_is_not():
    bilevel = example("bilevel_with_penalty")
    answers, gradients, differences = bilevel.errors(2.0, seed=0)
    assert answers < 0.005 and gradients < 0.05 and differences < 1e-4
    answers, gradients, _ = bilevel.errors(100.0, seed=0)
    assert answers > 0.05 and gradients > 0.2


@pytest.mark.slow
def test_the_leader_finds_its_optimum(lines):
    (found, optimum), *_ = lines("bilevel_with_penalty")
    assert found == pytest.approx(optimum, abs=0.01)


def test_a_contrast_makes_a_valley_at_each_root():
    torch.manual_seed(0)
    sets = example("energy_for_set_valued_targets")
    energy = sets.EnergyNetwork(hidden_dim=32, num_layers=2, x_offset=0.5, x_scale=4.0, y_scale=3.0)
    sets.train(energy, sets.contrast, 200)
    median, _, both = sets.searched(energy)
    assert median < 0.05 and both > 0.6


@pytest.mark.slow
def test_a_regression_predicts_no_root_and_energies_find_both(lines):
    (regression,), contrast, closest = lines("energy_for_set_valued_targets")
    assert regression > 0.5
    assert contrast[0] < 0.03 and contrast[3] > 90
    assert closest[3] < contrast[3]


def test_the_best_design_is_found_and_a_price_learned(monkeypatch):
    design = example("integer_design")
    monkeypatch.setattr(design, "TAPS", 4)  # 6,561 designs
    monkeypatch.setattr(design, "WAVES", design.WAVES[:4])
    torch.manual_seed(0)
    best, _ = design.brute_force(1.0)
    assert (design.search(torch.ones(20)).best_value < best + 1e-3).sum() >= 18
    few, many = (design.brute_force(price)[1] for price in (100.0, 0.1))
    assert few < many
    price = torch.tensor([0.5], requires_grad=True)
    design.adders(design.search(price).mean).sum().backward()
    assert price.grad < 0  # dearer adders are fewer


@pytest.mark.slow
def test_the_best_of_five_million_designs_is_found(lines):
    (hits, searches, *_), _, (_, wanted, adders) = lines("integer_design")
    assert hits >= 0.9 * searches and wanted == adders


def test_mppi_reaches_the_goal_around_obstacles_and_draws(lines, tmp_path):
    picture = tmp_path / "drives.png"
    ((arrived, count, clearance, distance, _),) = lines("mppi_obstacles", "--candidates=100", f"--picture={picture}")
    assert arrived == count == 6 and clearance > 0 and distance < 0.15
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_decoder_learns_in_a_frozen_model():
    cheaper = example("cheaper_planner")
    torch.manual_seed(0)
    model = cheaper.Arm().requires_grad_(False)
    before = model.damping.clone()
    (untrained,), _ = cheaper.measured(cheaper.latent_planner(model, cheaper.train(model, 0)), 1)
    (trained,), _ = cheaper.measured(cheaper.latent_planner(model, cheaper.train(model, 10)), 1)
    assert trained < untrained and torch.equal(model.damping, before)


@pytest.mark.slow
def test_a_fifth_of_the_trajectories_plans_at_least_as_well(lines):
    actions, knots, latent = lines("cheaper_planner")
    assert latent[3] * 5 == knots[3] == actions[3]
    assert latent[0] < min(knots[0], actions[0])
