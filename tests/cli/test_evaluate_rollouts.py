"""``lit-dcem evaluate`` for checkpoints of PlaNet, as a user types it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs

from lit_dcem.cli.main import main
from lit_dcem.envs.make import make
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.planet import evaluate as evaluate_rollouts
from lit_dcem.planet.data.environment_data import EVALUATION_SEEDS, TEST_SEED, VALIDATION_SEED, EnvironmentData
from lit_dcem.planet.data.on_policy import OnPolicyRollouts
from lit_dcem.planet.data.rollouts import Rollouts

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
MODEL = ["hidden_dim=16", "num_layers=1", 'rssm={"deter_dim": 16, "stoch_dim": 4, "num_layers": 1}']
SMALL = {"phase1": [f"--model.world_model.{option}" for option in MODEL], "phase2": []}
"""the second phase has the model of the first"""
FULL = """
planner:
  class_path: lit_dcem.CEMPlanner
  init_args:
    solver:
      class_path: lit_dcem.DCEM
      init_args: {num_candidates: 7, num_elites: 3, num_iterations: 2, temperature: 0.0}
    horizon: 4
"""
LATENT = """
planner:
  class_path: lit_dcem.LatentPlanner
  init_args:
    decoder: {class_path: lit_dcem.ActionDecoder, init_args: {latent_dim: 5, horizon: 3, action_dim: 2}}
    solver:
      class_path: lit_dcem.DCEM
      init_args: {num_candidates: 6, num_elites: 2, num_iterations: 3, temperature: 1.0}
"""


def black(envs, index, height, width):
    return np.zeros((height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def runs(made_once):
    """A checkpoint of either phase, a few updates old."""
    folder = made_once("runs_to_evaluate", _train)
    return {f"phase{n}": str(folder / "runs" / f"phase{n}" / "version_0") for n in (1, 2)}


def _train():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VectorEnv, "render", black)
        debug = ["--config", str(CONFIGS / "debug.yaml"), "--trainer.max_epochs=1"]
        for name in ("phase1", "phase2"):
            main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *debug, *QUIET, *SMALL[name]])


def evaluate(run, *options, out):
    main(["evaluate", "--checkpoint", run, "--episodes=3", "--out", str(out), *options])
    (report,) = json.loads(Path(out).read_text())["results"].values()
    return report


@pytest.mark.parametrize("phase", ["phase1", pytest.param("phase2", marks=pytest.mark.slow)])
def test_measures_whole_episodes_and_repeats(runs, phase, tmp_path, capsys):
    report = evaluate(runs[phase], "--seed=1", out=tmp_path / "a.json")
    assert "median return" in capsys.readouterr().out
    assert report["environment"] == "cheetah-run" and len(report["returns"]) == report["episodes"] == 3
    assert report["median"] == sorted(report["returns"])[1]
    assert report["quartiles"][0] <= report["median"] <= report["quartiles"][1]
    assert report["mean_interval"][0] <= report["mean"] <= report["mean_interval"][1]
    assert report["trajectories_a_decision"] == 20 and report["seconds_per_decision"] > 0
    assert report.get("trajectories_to_compare") == {"phase1": None, "phase2": 8}[phase]  # which keeps plans
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["checkpoint_file"] == f"{runs[phase]}/checkpoints/last.ckpt"
    assert evaluate(runs[phase], "--seed=1", out=tmp_path / "b.json")["returns"] == report["returns"]
    assert evaluate(runs[phase], "--seed=2", out=tmp_path / "c.json")["returns"] != report["returns"]


def test_one_episode_has_no_interval(runs, tmp_path, capsys):
    report = evaluate(runs["phase1"], "--episodes=1", out=tmp_path / "a.json")
    assert report["mean_interval"] is None
    assert re.search(r"95% interval +- *\n", capsys.readouterr().out.replace("│", ""))


@pytest.mark.parametrize(
    ("phase", "config", "trajectories", "search"),
    [
        ("phase1", FULL, 14, "CEM over actions"),
        ("phase2", FULL, 14, "CEM over actions"),
        ("phase2", LATENT, 18, "DCEM in a latent space"),
        ("phase2", LATENT.replace("temperature: 1.0", "temperature: 0.0"), 18, "CEM in a latent space"),
    ],
)
def test_another_planner_in_the_same_model(runs, phase, config, trajectories, search, tmp_path, capsys):
    (tmp_path / "planner.yaml").write_text(config)
    report = evaluate(runs[phase], "--config", str(tmp_path / "planner.yaml"), out=tmp_path / "a.json")
    assert report["trajectories_a_decision"] == trajectories
    assert report["search"] == search and search in capsys.readouterr().out
    main(["figure", "trajectories", "--run", str(tmp_path / "a.json"), "--out", str(tmp_path / "figure.png")])


def test_each_episode_has_an_environment_of_its_own_seed(runs, tmp_path, monkeypatch):
    """Seeds count from the one given, over as many rounds as it takes, and say which episodes these are."""
    monkeypatch.setattr(evaluate_rollouts, "MOST_AT_ONCE", 2)
    made, make_envs = [], EnvironmentData.make_envs
    monkeypatch.setattr(
        EnvironmentData,
        "make_envs",
        lambda data, num, seed, rank=0: made.append(seed) or make_envs(data, num, seed, rank),
    )
    report = evaluate(runs["phase1"], "--env_seed=900001", out=tmp_path / "a.json")
    assert made == [[900_001, 900_002], [900_003]] and report["env_seeds"] == [900_001, 900_002, 900_003]
    assert len(report["returns"]) == 3 == len(set(report["returns"]))
    assert evaluate(runs["phase1"], "--env_seed=900001", out=tmp_path / "b.json")["returns"] == report["returns"]
    assert evaluate(runs["phase1"], out=tmp_path / "c.json")["env_seeds"] is None


def test_environments_with_seeds_are_those_that_would_be_alone():
    together = make("cheetah-run", 2, seed=[900_001, 900_002]).reset()
    alone = [make("cheetah-run", seed=seed).reset()[0] for seed in (900_001, 900_002)]
    assert together.equal(torch.stack(alone)) and not alone[0].equal(alone[1])


@pytest.mark.parametrize("kind", [Rollouts, OnPolicyRollouts])
@pytest.mark.parametrize("seed", [EVALUATION_SEEDS[0], EVALUATION_SEEDS[-1], VALIDATION_SEED, TEST_SEED])
def test_no_training_has_a_seed_of_evaluations(kind, seed):
    rule = "seed must not be one of evaluations, 900001 to 1000000, 1000003 and 1000033"
    with pytest.raises(ValueError, match=rf"^{rule}, got {seed}\.$"):
        kind("cheetah-run", seed=seed)
    for near in (EVALUATION_SEEDS[0] - 1, EVALUATION_SEEDS[-1] + 1):
        assert kind("cheetah-run", seed=near).seed == near


def test_a_latent_planner_needs_a_decoder(runs, tmp_path, capsys):
    (tmp_path / "planner.yaml").write_text(LATENT)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--checkpoint", runs["phase1"], "--config", str(tmp_path / "planner.yaml")])
    assert stop.value.code == 2
    assert "A LatentPlanner needs a checkpoint with a decoder, got one of PlanetPhase1." in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["--states=validation", "--seeds=5", "--steps=3", "--keep_plans=true", "--expert=cartpole_expert"]
)
def test_options_of_the_cartpole_are_refused(runs, capsys, option):
    """Even with the value that they have by default."""
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--checkpoint", runs["phase1"], "--episodes=3", option])
    assert stop.value.code == 2
    name = option.partition("=")[0]
    assert f"lit-dcem: {name} needs a planner of the cartpole, got PlanetPhase1.\n" == capsys.readouterr().err


def test_another_environment_cannot_be_asked_for(runs, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--checkpoint", runs["phase1"], "--env", "walker-walk"])
    assert stop.value.code == 2
    assert "must be known, got --env" in capsys.readouterr().err


def test_the_video_is_of_the_first_episode(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(VectorEnv, "render", black)
    evaluate(runs["phase1"], "--video", str(tmp_path / "gait.mp4"), out=tmp_path / "a.json")
    assert count_frames_and_secs(tmp_path / "gait.mp4")[0] == 25


def test_a_third_phase_refuses_to_start_from_the_first(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start = f"--model.init_args.start={runs['phase1']}/checkpoints/last.ckpt"
    debug = ["--config", str(CONFIGS / "debug.yaml")]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(CONFIGS / "phase3.yaml"), *debug, *QUIET, start])
    assert stop.value.code == 2
    rule = "PlanetPhase3 starts from a checkpoint of PlanetPhase2 or PlanetPhase3 or PlanetJoint"
    assert f"{rule}, got one of PlanetPhase1" in capsys.readouterr().err
