"""People's own environments, which end early, take options and know no limit of time, on the command line as typed."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from lit_dcem.cli.main import main
from lit_dcem.envs import make as making

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
OPTIONS = ["--data.init_args.env=Walk-v0", '--data.init_args.env_options={"falls": 3, "scale": 0.5}']
ENDS = "--model.init_args.world_model.init_args.termination_weight=1"


class Walk(gymnasium.Env):
    """Falls after so many steps, or never."""

    observation_space, action_space = Box(-1, 1, (5,)), Box(-2, 2, (1,), np.int64)
    nan_at = None

    def __init__(self, falls=None, scale=1.0, breaks=None):
        self.falls, self.scale, self.breaks, self.steps = falls, scale, breaks, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.scale * self.np_random.standard_normal(5), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        self.steps += 1
        if self.steps == self.breaks:
            raise RuntimeError(f"robot disconnected\nat step {self.steps}")
        reward = np.nan if self.count == self.nan_at else float(action[0])
        return self.scale * self.np_random.standard_normal(5), reward, self.count == self.falls, False, {}


@pytest.fixture(autouse=True)
def registered():
    making._warn_of_no_limit.cache_clear()
    gymnasium.register("Walk-v0", Walk)
    yield
    del gymnasium.registry["Walk-v0"]


def command(phase, *options):
    configs = [f"--config={CONFIGS / name}.yaml" for name in (f"swingup_phase{phase}", "debug")]
    repeat = "--data.init_args.action_repeat=1"
    return ["fit", *configs, *QUIET, "--trainer.max_epochs=1", repeat, *options]


def refused(capsys, *arguments):
    """Exit code 2 and one sentence, which is returned."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return next(line for line in lines if line.startswith("lit-dcem: "))


def test_episodes_shorter_than_a_sequence_train_measure_and_chain(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(command(1, *OPTIONS, ENDS, "--data.init_args.time_limit=50"))
    run = tmp_path / "runs/swingup_phase1/version_0"
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert any("termination_head" in name for name in checkpoint["state_dict"])
    assert checkpoint["datamodule_hyper_parameters"]["env_options"] == {"falls": 3, "scale": 0.5}
    main(["evaluate", "--checkpoint", str(run), "--episodes=2", f"--out={tmp_path / 'out.json'}"])
    (report,) = json.loads((tmp_path / "out.json").read_text())["results"].values()
    assert all(-6 <= value <= 6 and value == round(value) for value in report["returns"]), "three steps, of integers"

    start = ["--data.init_args.time_limit=50", f"--model.init_args.start={run / 'checkpoints/last.ckpt'}"]
    sentence = refused(capsys, *command(2, OPTIONS[0], '--data.init_args.env_options={"falls": 4}', ENDS, *start))
    assert "Walk-v0 with action repeat 1 and env_options {'falls': 3, 'scale': 0.5} in" in sentence
    assert sentence.endswith("got Walk-v0 with action repeat 1 and env_options {'falls': 4}.")
    sentence = refused(capsys, *command(2, *OPTIONS, *start, "--model.world_model.termination_weight=0"))
    assert "must have the shapes of the model, got" in sentence and "termination_head" in sentence
    other_order = '--data.init_args.env_options={"scale": 0.5, "falls": 3}'
    main(command(2, OPTIONS[0], other_order, ENDS, *start))


def test_an_environment_that_fails_leaves_the_seed_episodes(tmp_path, monkeypatch, capsys):
    """Which may have taken hours, on a robot."""
    monkeypatch.chdir(tmp_path)
    broken = '--data.init_args.env_options={"breaks": 75}'
    seeds = ["--data.init_args.seed_episodes=20", "--data.init_args.time_limit=20"]
    sentence = refused(capsys, *command(1, OPTIONS[0], broken, *seeds))
    kept = Path("runs/swingup_phase1/version_0")
    reuse = f"--data.initial_replay={kept}"
    assert sentence.endswith(f"RuntimeError: robot disconnected at step 75; to reuse its seed episodes, add {reuse}.")
    collected = (kept / "replay/rank_0/episodes.f32").read_bytes()
    assert collected
    few = ["--data.init_args.seed_episodes=1", "--data.init_args.time_limit=20"]
    same = '--data.init_args.env_options={"breaks": 75, "falls": null}'
    assert "must be of the task of the run" in refused(capsys, *command(1, OPTIONS[0], same, *few, reuse))
    whole = '--data.init_args.env_options={"breaks": 75}'
    making_no_steps = "--data.init_args.seed_updates=1000"
    main(command(1, OPTIONS[0], whole, *few, reuse, making_no_steps))
    assert Path("runs/swingup_phase1/version_1/replay/rank_0/episodes.f32").read_bytes() == collected


def test_another_tasks_replay_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(command(1, *OPTIONS, ENDS, "--data.init_args.time_limit=50"))
    run = Path("runs/swingup_phase1/version_0")
    reuse = [f"--data.init_args.initial_replay={run}", "--data.init_args.time_limit=50"]
    for other in (["--data.init_args.action_repeat=2"], ['--data.init_args.env_options={"falls": 4}']):
        sentence = refused(capsys, *command(1, *OPTIONS, ENDS, *reuse, *other))
        assert "initial_replay must be of the task of the run, Walk-v0 with action repeat" in sentence
        theirs = "got Walk-v0 with action repeat 1 and env_options {'falls': 3, 'scale': 0.5}"
        assert sentence.endswith(f"{theirs} in {run}.")
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    main(command(1, *OPTIONS, ENDS, *reuse))


def test_an_environment_that_fails_later_tells_what_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fails = '--data.init_args.env_options={"breaks": 70}'
    few = ["--data.init_args.seed_episodes=1", "--data.init_args.time_limit=20", "--trainer.max_epochs=30"]
    with pytest.raises(RuntimeError, match="robot disconnected"):
        main(command(1, OPTIONS[0], fails, *few))
    kept = torch.load("runs/swingup_phase1/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"]
    told = f"lit-dcem: The error below ended the run; --ckpt_path last resumes from update {kept}.\n"
    assert kept > 0 and told in capsys.readouterr().err


def test_broken_episodes_of_an_evaluation_are_told(tmp_path, monkeypatch):
    """Where rewards are negative, breaking the simulation would look best."""
    monkeypatch.chdir(tmp_path)
    main(command(1, OPTIONS[0], '--data.init_args.env_options={"scale": 0.5}', "--data.init_args.time_limit=20"))
    monkeypatch.setattr(Walk, "nan_at", 7)
    with pytest.warns(UserWarning, match="A simulation must not break down in an evaluation, .* got 2 that did"):
        main(["evaluate", "--checkpoint", "runs/swingup_phase1", "--episodes=2", "--out=out.json"])
    (report,) = json.loads(Path("out.json").read_text())["results"].values()
    assert report["diverged"] == 2 and len(report["returns"]) == 2


@pytest.mark.slow
def test_without_a_limit_episodes_are_cut_off_and_both_are_told(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(making, "LONGEST", 40)
    unlimited = "--data.init_args.time_limit=null"
    main(command(1, unlimited, OPTIONS[0]))
    main(command(1, unlimited, *OPTIONS))
    told = [str(warning.message) for warning in recwarn]
    assert [text for text in told if "time limit" in text] == [
        "Walk-v0 has no time limit, so its episodes are cut off after 40 simulator steps; set time_limit to change it."
    ]
    assert sum("end by themselves, which the world model does not predict" in text for text in told) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (['--data.init_args.env_options={"legs": 2}'], r"got Walk-v0 with env_options {'legs': 2}: "),
        (["--data.init_args.env_options=3"], "env_options"),
        (["--data.init_args.time_limit=0"], "time_limit must be at least 1, got 0."),
        (["--data.init_args.time_limit=1.5"], "time_limit"),
        (["--model.init_args.world_model.init_args.termination_weight=-1"], "termination_weight must be at least 0"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *command(1, OPTIONS[0], "--data.init_args.time_limit=50", *options))
