"""Configs, options of experiments, classes and monitors that cannot be."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from support.bad_input import EXPERIMENTS, KINDS, QUICK, STARTS, Case, fit, kind
from support.bad_input_files import BAD_YAML, CHECKPOINTS, CONFIGS, PARTS, read
from support.bad_values import nonsense, options_in, rotated

# ---- configs -------------------------------------------------------------------------------------------------------


@kind(fast=20)
def config_files() -> Iterator[Case]:
    good = [f"--config={CONFIGS / 'regression.yaml'}", f"--config={CONFIGS / 'debug.yaml'}"]
    for name in BAD_YAML:
        if name not in ("empty", "comment"):  # nothing is no mistake after a good config
            yield Case(["fit", *good, f"--config={name}.yaml"])
        yield Case(["fit", f"--config={name}.yaml"])
        yield Case(["evaluate", f"--config={name}.yaml"])
        yield Case(["sweep", f"{name}.yaml"])
    paths = ("nowhere.yaml", ".", "a_file/config.yaml", "", "whole.ckpt", "nul\0.yaml", "https://localhost/x.yaml")
    for path in (*paths, "x" * 256):
        yield Case(["fit", f"--config={path}"])
        yield Case(["evaluate", f"--config={path}"])
        yield Case(["sweep", path])


@kind(fast=10)
def config_parts() -> Iterator[Case]:
    for part, values in PARTS.items():
        for index, value in enumerate(values):
            if (part, value) == ("seed_everything", None):  # a default of Lightning's
                continue
            yield fit("regression", f"--config=part_{part}_{index}.yaml")
            yield fit("regression", f"--{part}={json.dumps(value)}")


@kind(fast=8)
def seeds() -> Iterator[Case]:
    for value in ("-1", str(2**32), str(2**64), "1.5", "nan", "abc", "[]", "{}", ""):
        yield fit("regression", f"--seed_everything={value}")
    for value in ("-1", str(2**64), str(2**70), "1.5", "nan", "abc", "[]"):
        yield fit("phase1", f"--data.init_args.seed={value}")
        yield fit("phase3", f"--data.init_args.seed={value}")
        checkpoint = f"--checkpoint={CHECKPOINTS / 'swingup_phase1_1.ckpt'}"
        yield Case(["evaluate", checkpoint, "--episodes=1", f"--seed={value}"])
        yield Case(["evaluate", checkpoint, "--episodes=1", f"--env_seed={value}"])
        if value != "-1":  # torch takes it
            yield Case(["evaluate", f"--config={CONFIGS / 'cartpole_pca.yaml'}", f"--planner.init_args.seed={value}"])
    yield Case(["evaluate", f"--config={CONFIGS / 'cartpole_pca.yaml'}", "--env_seed=1"])


# ---- options of the experiments ------------------------------------------------------------------------------------


def options_of(experiment: str) -> Iterator[tuple[str, str]]:
    """Each option of model and data once, with each nonsense value."""
    config = read(*EXPERIMENTS[experiment])
    for option, value in options_in({name: config[name] for name in ("model", "data")}):
        if value is not None and not option.endswith((".env", ".start", ".initial_replay")):
            yield from ((option, bad) for bad in nonsense(option, value))


def _options(experiment: str) -> Iterator[Case]:
    for option, bad in rotated(list(options_of(experiment))):
        yield fit(experiment, f"{option}={bad}")


for _experiment in EXPERIMENTS:

    def _cases(experiment: str = _experiment) -> Iterator[Case]:
        return _options(experiment)

    KINDS[f"options_of_{_experiment}"] = _cases, 4 if _experiment in ("regression", "cartpole") else 2


@kind(fast=4)
def options_that_fail_late() -> Iterator[Case]:
    """What fits its type and range, but not the problem; known in `fit` alone."""
    solver = "--model.init_args.solver.init_args"
    yield fit("cartpole", f"{solver}.horizon=7")
    yield fit("cartpole", f"{solver}.horizon=3")
    yield fit("cartpole", "--model.init_args.decoder.init_args.lower=100")
    yield fit("cartpole", f"{solver}.lower=2")
    yield fit("cartpole", f"{solver}.num_kept=200")
    yield fit("cartpole", f"{solver}.num_candidates=[10, 10, 10]")
    yield fit("regression", f"{solver}.grad_iterations=0")
    yield fit("regression", f"{solver}.horizon=7")
    yield fit("regression", "--model.init_args.optimizer.init_args.betas=[2, 0.9]")
    yield fit("regression", "--model.init_args.optimizer.init_args.betas=[0.9]")
    for experiment in ("phase1", "phase2", "joint"):
        yield fit(experiment, "--data.init_args.sequence_length=0")
    for experiment in ("phase1", "phase2", "phase3", "joint"):
        yield fit(experiment, "--data.init_args.action_repeat=1000000")
        yield fit(experiment, "--data.init_args.env=nothing-here")
        yield fit(experiment, "--data.init_args.env=")
        yield fit(experiment, "--data.init_args.env=Nothing-v0")
        yield fit(experiment, "--model.init_args.world_model.init_args.action_dim=3")
        yield fit(experiment, "--model.init_args.planner.init_args.solver.init_args.temperature=-1")
        yield fit(experiment, "--model.init_args.planner.init_args.precision=float8")
    for experiment in ("phase2", "phase3"):
        yield fit(experiment, "--data.init_args.env=reacher-easy")  # another task than that of its start
    for experiment in ("phase2", "phase3", "joint"):
        yield fit(experiment, "--model.init_args.planner.init_args.solver.init_args.horizon=7")
        yield fit(experiment, "--model.init_args.planner.init_args.decoder.init_args.action_dim=3")
    for experiment in ("phase3", "joint"):
        yield fit(experiment, "--model.init_args.policy_gradient.init_args.action_dim=3")
        yield fit(experiment, "--model.init_args.policy_gradient.init_args.value.init_args.deter_dim=3")
        yield fit(experiment, "--model.init_args.policy_gradient.init_args.value.init_args.stoch_dim=3")
    for start in ("nowhere.ckpt", "folder.ckpt", "cut.ckpt", "text.ckpt", "whole.ckpt", "https://localhost/a.ckpt"):
        yield fit("phase2", f"--model.init_args.start={start}")
        yield fit("phase3", f"--model.init_args.start={start}")
    yield fit("phase2", "--data.init_args.initial_replay=nowhere")
    yield fit("phase2", "--data.init_args.initial_replay=a_file")


TOO_MANY = "solver.init_args.num_candidates=1000000000000000"
TAKEN_ONCE = {
    "regression": (
        "trainer.num_sanity_val_steps=-2", "trainer.gradient_clip_val=-1", "trainer.barebones=true",
        "trainer.logger.init_args.save_dir=", "model.init_args.lr_scheduler.init_args.T_max=-1",
        f"model.init_args.{TOO_MANY}",
    ),
    "cartpole": ("model.init_args.solver.init_args.upper=[]", "model.init_args.loss.answer=.nan"),
    "phase1": ("data.init_args.action_repeat=1000000",),
    "phase2": ("model.init_args.decoder_options.eps=-1", "model.init_args.optimizer.init_args.eps=1e400"),
    "joint": ("model.init_args.value_options.clip=[]",),
}  # fmt: skip
"""what was trained with, until all cases here were tried"""


@kind(fast=20)
def taken_once() -> Iterator[Case]:
    for experiment, options in TAKEN_ONCE.items():
        for option in options:
            yield fit(experiment, f"--{option}")
    expert = ["evaluate", f"--config={CONFIGS / 'cartpole_expert.yaml'}"]
    yield Case([*expert, f"--planner.init_args.{TOO_MANY}", "--seeds=1"])
    yield Case([*expert, "--closed_loop", "--expert=binary.yaml"])
    yield Case([*expert, "--seeds="])
    yield Case(["figure", "all", f"--out={'x' * 300}"])
    yield Case(["figure", "1", "--out="])
    yield Case(["sweep", "x" * 300])


@kind(fast=2)
def module_and_data_of_different_experiments() -> Iterator[Case]:
    together = {"phase1": "phase2", "phase2": "phase1", "regression": "regression_gd", "regression_gd": "regression"}
    for model, data in itertools.permutations(EXPERIMENTS, 2):
        if together.get(model) != data:
            yield Case(["fit", f"--config=pair_{model}_{data}.yaml", *QUICK])


def write_pairs(folder: Path) -> None:
    """The configs of the pairs."""
    for model, data in itertools.permutations(EXPERIMENTS, 2):
        ours, theirs = read(*EXPERIMENTS[model]), read(*EXPERIMENTS[data])
        both = {**ours, "data": theirs["data"]}
        both["data"]["init_args"].pop("initial_replay", None)
        if model in STARTS:
            both["model"]["init_args"]["start"] = STARTS[model]
        (folder / f"pair_{model}_{data}.yaml").write_text(yaml.safe_dump(both))


# ---- classes and monitors ------------------------------------------------------------------------------------------


@kind(fast=2)
def monitors() -> Iterator[Case]:
    plateau = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}
    for experiment in EXPERIMENTS:
        for index in (0, 1):
            for name in ("val/nothing", "train/nothing", "", "3"):
                monitor = f"--trainer.callbacks={json.dumps(_checkpoint(name, index))}"
                yield fit(experiment, monitor)
        stopping = [
            {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": {"monitor": "val/nothing"}}
        ]
        yield fit(experiment, f"--trainer.callbacks={json.dumps(stopping)}")
        lightnings = {"class_path": "pytorch_lightning.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/nothing"}}
        yield fit(experiment, f"--model.init_args.lr_scheduler={json.dumps(lightnings)}")
        for bad in ({"factor": 2.0}, {"mode": "middle"}, {"patience": "abc"}):
            yield fit(experiment, f"--model.init_args.lr_scheduler={json.dumps({**plateau, 'init_args': bad})}")


def _checkpoint(monitor: str, index: int) -> list[dict[str, Any]]:
    callback = {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": {"monitor": monitor}}
    return [{"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"}] * index + [callback]


@kind(fast=9)
def class_paths() -> Iterator[Case]:
    paths = ("Nothing", "lit_dcem.Nothing", "nothing.here.Thing", "math.pi", "math", "lit_dcem.dcem", "os.getcwd")
    paths = (*paths, "torch.nn.Linear", "builtins.dict", "", "3", ".Thing", "a b", "lit_dcem..DCEM", "torch.nn.Module")
    slots = {
        "--model": "regression",
        "--data": "regression",
        "--model.init_args.energy": "regression",
        "--model.init_args.solver": "regression",
        "--model.init_args.optimizer": "regression",
        "--model.init_args.lr_scheduler": "regression",
        "--model.init_args.decoder": "cartpole",
        "--model.init_args.world_model": "phase1",
        "--model.init_args.planner": "phase1",
        "--model.init_args.planner.init_args.decoder": "phase2",
        "--model.init_args.policy_gradient": "phase3",
        "--trainer.logger": "regression",
    }
    pairs = [(slot, path) for slot in slots for path in paths]
    for slot, path in rotated(pairs):
        yield fit(slots[slot], f"{slot}.class_path={path}")
    for path in paths:
        yield fit("regression", f"--trainer.callbacks.class_path={path}")
        yield Case(["evaluate", f"--planner.class_path={path}"])
