"""Shipped configs are what the documentation says of them: the paper's sizes, DCEM, or CEM."""

import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.cli import LightningCLI
from support.phases import STARTS

from lit_dcem.cli.completing import in_front, missing
from lit_dcem.planet.model.rssm import RSSM

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SEARCH = {"solver.num_candidates": 100, "solver.num_elites": 10, "solver.num_iterations": 10, "solver.temperature": 1.0}
"""of the paper's DCEM"""
HALVED = {"lr_scheduler": "ReduceLROnPlateau", "lr_scheduler.factor": 0.5, "lr_scheduler.patience": 20}
ADAM = {"optimizer": "Adam", "optimizer.lr": 1e-3, "optimizer.eps": 1e-4}
"""of the world model"""
PAPER = {
    "regression_paper": {  # section 5.1: three updates on each point, 60,000 in all
        **{f"model.{name}": value for name, value in (SEARCH | HALVED).items()},
        "model.energy.hidden_dim": 128, "model.energy.num_layers": 3, "model.energy.x_scale": 1.0,
        "model.initial_std": 7.0, "model.solver.lower": None, "model.training_solver": None, "model.optimizer": "Adam",
        "model.optimizer.lr": 1e-3, "model.loss_iterations": 1, "data.num_points": 100, "data.batch_size": 1,
        "data.updates_per_batch": 3, "data.updates_per_epoch": 100, "trainer.max_epochs": 600,
        "trainer.gradient_clip_val": 1.0,
    },
    "cartpole_paper": {  # section 5.2: 100,000 updates of one state
        **{f"model.{name}": value for name, value in (SEARCH | HALVED).items()},
        "model.decoder.latent_dim": 2, "model.decoder.horizon": 20, "model.decoder.hidden_dim": 256,
        "model.decoder.num_layers": 3, "model.decoder.activation": "elu", "model.decoder.condition_dim": 0,
        "model.solver.lower": -1.0, "model.solver.upper": 1.0, "model.initial_std": 0.5, "model.answer": "mean",
        "model.loss": None, "model.training_solver": None, "model.optimizer": "Adam", "model.optimizer.lr": 5e-4,
        "data.batch_size": 1, "data.updates_per_epoch": 100, "trainer.max_epochs": 1000,
        "trainer.gradient_clip_val": 1.0,
    },
    "phase1_paper": {  # section 5.3: 100 updates in the 250 decisions of an episode
        **{f"model.{name}": value for name, value in ADAM.items()},
        "model.planner": "CEMPlanner", "model.planner.solver.num_candidates": 1000, "model.planner.horizon": 12,
        "model.planner.solver.num_elites": 100, "model.planner.solver.num_iterations": 10,
        "model.planner.solver.temperature": 0.0, "model.planner.warm_start": False, "model.planner.sample": True,
        "model.planner.solver.noise_exponent": 0.0, "model.planner.solver.num_kept": 0, "model.normalize": False,
        "model.world_model.hidden_dim": 200, "model.world_model.num_layers": 2, "model.world_model.rssm": None,
        "model.world_model.observation_weight": 1.0, "model.world_model.reward_weight": 10.0,
        "model.world_model.free_nats": 3.0, "model.world_model.kl_balance": None, "data.action_repeat": 4,
        "data.batch_size": 50, "data.sequence_length": 50, "data.update_interval": 2.5, "data.seed_episodes": 5,
        "data.exploration_noise": 0.3, "trainer.gradient_clip_val": 1000.0,
    },
    "phase2_paper": {
        **{f"model.{name}": value for name, value in ADAM.items()},
        **{f"model.{solver}{name}": value for solver in ("planner.", "training_") for name, value in SEARCH.items()},
        "model.planner": "LatentPlanner", "model.planner.decoder.horizon": 12, "model.planner.keep_plans": False,
        "model.loss": None, "trainer.gradient_clip_val": 1000.0,
    },
    "phase3_paper": {  # ten episodes a step of PPO
        "model.planner.solver.temperature": 1.0, "model.policy_gradient.std": 0.1, "model.policy_gradient.clip": 0.2,
        "model.policy_gradient.gae_lambda": 0.95, "model.policy_gradient.discount": 0.99,
        "model.policy_gradient.value_coefficient": 0.5, "model.policy_gradient.max_kl": None,
        "model.policy_gradient.value_steps": 0, "model.tuned.decoder.lr": 1e-4, "model.tuned.reward.lr": 1e-5,
        "data.num_episodes": 10, "data.passes": 2, "data.batch_steps": None, "trainer.gradient_clip_val": 0.5,
    },
}  # fmt: skip
"""what docs/deviations.md names as the paper's"""
LEARNS_AT = {
    **dict.fromkeys(("regression", "regression_paper", "cartpole", "cartpole_paper", "cartpole_dcem"), 1.0),
    **dict.fromkeys(("phase2_dcem", "phase2_paper", "swingup_phase2", "finetune_dcem", "phase3_paper"), 1.0),
    **dict.fromkeys(("phase3", "swingup_phase3"), 0.1),
    **dict.fromkeys(("cartpole_best", "cartpole_state", "phase2", "joint"), 0.0),
}
"""temperature of the search that something learns through; above 0 it is DCEM"""
WITHOUT = {
    "regression_gd",
    "debug",
    "value",
    "phase1",
    "phase1_paper",
    "swingup_phase1",
    "walker_phase1",
    "walker_phase2",
}
"""nothing learns through a search, or it is another config's"""


class Parsed(LightningCLI):
    """The whole config, with all defaults, and nothing built."""

    def instantiate_classes(self):
        pass


def whole(name, monkeypatch):
    """All options of a config by name, each class as its own name."""
    monkeypatch.setattr(sys, "argv", ["lit-dcem"])
    start = [f"--model.start={STARTS[name]}"] if name in STARTS else []
    typed = ["fit", f"--config={CONFIGS / name}.yaml", *start]
    config = Parsed(args=in_front(missing(typed), typed)[1:], run=False, save_config_callback=None).config
    return dict(flat(config.as_dict()))


def flat(value, name=""):
    if not isinstance(value, dict):
        yield name, value
        return
    if "class_path" in value:
        yield name, value["class_path"].rpartition(".")[2]
    for key, each in (value.get("init_args", {}) if "class_path" in value else value).items():
        yield from flat(each, f"{name}.{key}" if name else key)


@pytest.mark.parametrize("name", PAPER)
def test_a_config_called_paper_has_what_the_paper_says(name, monkeypatch):
    found = whole(name, monkeypatch)
    assert {option: found[option] for option in PAPER[name]} == PAPER[name]


def test_the_paper_has_the_sizes_of_the_recurrent_model_by_default():
    defaults = {name: each.default for name, each in inspect.signature(RSSM).parameters.items()}
    assert (defaults["deter_dim"], defaults["stoch_dim"], defaults["min_std"]) == (200, 30, 0.1)


def learns_at(name):
    """The temperature that a config writes down for the search that something learns through."""
    model = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"]
    solver = model.get("training_solver") or model.get("solver") or model["planner"]["init_args"]["solver"]
    return solver["init_args"]["temperature"]


def test_each_config_learns_through_dcem_or_cem():
    others = {"cartpole_expert", "cartpole_pca"}  # planners, which do not learn
    names = {path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("sweep_")} - others
    assert names == LEARNS_AT.keys() | WITHOUT
    assert {name: learns_at(name) for name in LEARNS_AT} == LEARNS_AT


def test_what_documents_call_cem_learns_at_temperature_0():
    cem = {name for name, temperature in LEARNS_AT.items() if temperature == 0}
    readme, deviations = (ROOT / "README.md").read_text(), (ROOT / "docs/deviations.md").read_text()
    named = re.findall(r"configs/(\w+)\.yaml`[^|]*\*\*not DCEM\*\*", readme)
    named += re.findall(r"`(\w+)`", next(line for line in deviations.splitlines() if "CEM in a latent space |" in line))
    assert set(named) == {"cartpole_best", "cartpole_state"} <= cem
    (line,) = [line for line in deviations.splitlines() if "none (temperature 0); " in line]
    through = re.findall(r"`(\w+)`", line.partition("temperature 0); ")[2])
    assert through == ["phase2_dcem", "finetune_dcem", "swingup_phase2"] and not cem & set(through)
    comments = {name: (CONFIGS / f"{name}.yaml").read_text() for name in cem}
    assert [name for name, text in comments.items() if not re.search(r"^# .*[Tt]emperature 0\b", text, re.M)] == []
