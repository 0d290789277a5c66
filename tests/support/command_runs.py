"""Runs of the shipped configs at debug size, through the command line; and whether two of them are the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from lit_dcem.training.curves import read_curves

ROOT = Path(__file__).parents[2]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
AVERAGED = ["--trainer.callbacks+=pytorch_lightning.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
SHORT = ["--data.time_limit=160", "--data.evaluation_episodes=1"]
PLANNED = [*SHORT, "--model.init_args.planner.init_args.horizon=4"]
FEW = ["--data.num_envs=2", "--data.num_episodes=2"]
LATENT = [*SHORT, "--model.init_args.planner.init_args.decoder.init_args.horizon=4"]
PHASE2 = ["--model.start=swingup_phase1_1", "--data.initial_replay=null"]
PHASE3 = ["--model.start=swingup_phase2_1"]
EXPERIMENTS = {
    "regression": ("regression", "debug", []),  # averages its weights
    "plateau": ("regression_paper", "debug", ["--model.init_args.lr_scheduler.init_args.patience=0"]),
    "cartpole": ("cartpole", "debug", []),  # averages its weights
    "phase1": ("swingup_phase1", "debug", PLANNED),
    "phase1 averaged": ("swingup_phase1", "debug", [*PLANNED, *AVERAGED]),
    "phase2": ("swingup_phase2", "debug", [*SHORT, *PHASE2]),
    "phase3": ("swingup_phase3", "debug", [*SHORT, *FEW, *PHASE3]),
    "joint": ("joint", "debug", [*LATENT, "--data.num_batches=3"]),
}
"""config, its debug sizes, and what else is typed"""
TIMES = ("speed/", "val/seconds_per_decision")


def typed(experiment, *more):
    """What a user types to train an experiment."""
    config, debug, options = EXPERIMENTS[experiment]
    configs = [f"--config={ROOT / 'configs' / name}.yaml" for name in (config, debug)]
    return ["fit", *configs, *QUIET, *options, *more]


def folder(experiment, version=0):
    return Path("runs", EXPERIMENTS[experiment][0], f"version_{version}")


def command(arguments, cwd, **options):
    """Start the command in a process of its own, one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    line = [sys.executable, "-m", "lit_dcem.cli.main", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(line, cwd=cwd, env=environment, **{**pipes, **options})


def assert_same_run(first, second):
    """Two run folders hold the same: weights, optimizer, data, curves, replay; and differ in times alone."""
    ours, theirs = (torch.load(path / "checkpoints/last.ckpt", weights_only=True) for path in (first, second))
    for content in (ours, theirs):
        for state in content["callbacks"].values():
            state.pop("seconds", None)
            for row in state.get("rows", []):
                for name in ("seconds", "val/seconds_per_decision"):
                    row.pop(name, None)
            # Where the folder lies, and what Lightning does not take up.
            for name in [name for name in state if name.endswith(("path", "models", "current_score"))]:
                del state[name]
        del content["log_positions"], content["curves_position"]
        content["callbacks"].pop("Origin")  # the code may be edited while it is tested
    assert_equal(ours, theirs, "checkpoint")
    assert scalars(first) == scalars(second)
    assert rows(first) == rows(second)
    assert_rows_are_scalars(second)
    assert replay(first) == replay(second)


def scalars(run):
    """Every scalar in TensorBoard but times: tag, step and value, in order."""
    events = EventAccumulator(str(run), size_guidance={SCALARS: 0}).Reload()
    tags = [tag for tag in events.Tags()[SCALARS] if not tag.startswith(TIMES)]
    assert tags
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def rows(run):
    """Every row of the curves but times, as it is written."""
    lines = (run / "curves.csv").read_text().splitlines()
    return [line for line in lines if not line.partition(",")[2].startswith(TIMES)]


def assert_rows_are_scalars(run):
    """The curves have what TensorBoard has, which keeps float32."""
    curves = read_curves(run / "curves.csv")
    for tag, points in scalars(run).items():
        ours = zip(*curves[tag], strict=True)
        assert [(step, float(np.float32(value))) for step, value in ours] == points, tag


def replay(run):
    return {path.relative_to(run): path.read_bytes() for path in run.glob("replay/*/episodes.f32")}


def assert_equal(first, second, name):
    assert type(first) is type(second), name
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_equal(first[key], second[key], f"{name}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), name
        for index, (ours, theirs) in enumerate(zip(first, second, strict=True)):
            assert_equal(ours, theirs, f"{name}[{index}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first.nan_to_num(), second.nan_to_num()), name
    else:
        assert first == second, name
