"""What is wrong on the command line itself: commands, checkpoints, options of the Trainer, files to write."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from support.bad_input import EXPERIMENTS, Case, fit, kind
from support.bad_input_files import BAD_SWEEPS, CHECKPOINTS, CONFIGS, mutated, read
from support.bad_values import nonsense, options_in, rotated

# ---- the command line ----------------------------------------------------------------------------------------------


@kind(fast=6)
def unknown_and_abbreviated_options() -> Iterator[Case]:
    for option in ("--trainer.max_epoch=1", "--trainer.max_ep=1", "--seed=1", "--conf=x.yaml", "--model.lr=1", "--foo"):
        for command in ("fit", "validate", "test"):
            yield fit("regression", option, command=command)
    for option in ("--model.init_args.solver.init_args.num_elite=3", "--data.init_args.batch=3", "--print_conf", "-x"):
        yield fit("regression", option)
    for option in ("--data.init_args.env_name=x", "--model.init_args.world_model.init_args.deter_dim=3", "stray"):
        yield fit("phase1", option)
    for option in (
        "--checkpont=x",
        "--seedss=1",
        "--ste=3",
        "--plan=x",
        "stray",
        "-x",
        "--planner.init_args.nothing=3",
    ):
        yield Case(["evaluate", f"--config={CONFIGS / 'cartpole_expert.yaml'}", option])
    for option in ("--ru=x", "--o=x", "stray", "--format=png"):
        yield Case(["figure", "1", option])
    for option in ("--bud=1", "--job=1", "stray", "--seed=1"):
        yield Case(["sweep", str(CONFIGS / "sweep_cartpole.yaml"), option])
    for option in ("stray", "--force", "--out=x"):
        yield Case(["export", str(CHECKPOINTS / "regression_dcem_0.ckpt"), "out.ckpt", option])


@kind(fast=26)
def subcommands() -> Iterator[Case]:
    for words in (
        *([], ["paint"], ["FIT"], ["fi"], [""], ["--foo"], ["predict"], ["fit", "fit"], ["fit", "validate"], ["3"]),
        *(
            ["figure"],
            ["export"],
            ["export", "one"],
            ["sweep"],
            ["evaluate"],
            ["fit"],
            ["validate"],
            ["test"],
            ["train"],
        ),
        *(["--config", "x"], ["-v"], ["fit\n"], ["\0"], ["évaluer"], ["figure", "figure"], ["sweep", "sweep"]),
    ):
        yield Case(list(words))


@kind(fast=21)
def missing_values() -> Iterator[Case]:
    for option in ("--config", "--ckpt_path", "--seed_everything", "--trainer.max_epochs", "--model", "--data"):
        yield fit("regression", option)
    for option in ("checkpoint", "config", "states", "seeds", "env", "episodes", "out", "video", "expert"):
        yield Case(["evaluate", f"--{option}"])
    for option in ("--run", "--out"):
        yield Case(["figure", "1", option])
    for option in ("--out", "--backend", "--jobs", "--budget"):
        yield Case(["sweep", str(CONFIGS / "sweep_cartpole.yaml"), option])


# ---- checkpoints ---------------------------------------------------------------------------------------------------

BAD_CHECKPOINTS = (
    *("nowhere.ckpt", ".", "folder.ckpt", "empty_run", "cut.ckpt", "nearly.ckpt", "empty.ckpt", "text.ckpt"),
    *(
        "zeros.ckpt",
        "binary.ckpt",
        "a_file",
        "a_file/x.ckpt",
        "https://localhost/a.ckpt",
        "s3://a/b.ckpt",
        "",
        "nul\0.ckpt",
    ),
    *("regression.yaml", "/dev/null", "x" * 256),
)


@kind(fast=10)
def checkpoints() -> Iterator[Case]:
    for path in BAD_CHECKPOINTS:
        yield fit("regression", f"--ckpt_path={path}")
        yield fit("regression", f"--ckpt_path={path}", command="validate")
        yield Case(["evaluate", f"--checkpoint={path}"])
        yield Case(["export", path, "out.ckpt"])
        yield Case(["figure", "1", f"--run={path}"])
    for path in ("last", "best", "hpc", "registry:x"):
        yield fit("regression", f"--ckpt_path={path}")
        yield fit("regression", f"--ckpt_path={path}", command="test")
    for name in ("cartpole_d2_0", "swingup_phase1_1", "swingup_phase2_1", "swingup_phase3_2", "regression_gd_0"):
        path = CHECKPOINTS / f"{name}.ckpt"
        yield fit("regression", f"--ckpt_path={path}")
        if name != "regression_gd_0":
            yield fit("regression", f"--ckpt_path={path}", command="validate")
            yield Case(["figure", "1", f"--run={path}"])
    yield fit("cartpole", "--ckpt_path=whole.ckpt")
    yield fit("phase1", "--ckpt_path=whole.ckpt")
    yield Case(["evaluate", "--checkpoint=whole.ckpt", "--env_seed=1"])  # of a regression, which has no environment


@kind(fast=9)
def malformed_checkpoints() -> Iterator[Case]:
    harmless_to_weights = ("step_text", "callbacks_list", "history_text", "history_rows", "history_row")
    names = list(mutated({"state_dict": {"x": __import__("torch").ones(1)}}))
    for name in names:
        path = f"spoiled_{name}.ckpt"
        if not name.startswith(("argument", "absurd")):  # the config wins over that of the checkpoint
            yield fit("regression", f"--ckpt_path={path}")
        if name not in harmless_to_weights:
            yield Case(["figure", "1", f"--run={path}"])
        if name.startswith(("history", "callbacks")):
            yield Case(["figure", "5", f"--run={path}"])
        yield Case(["evaluate", f"--checkpoint={path}"])


# ---- the Trainer ---------------------------------------------------------------------------------------------------

TRAINER = {
    "devices": ("0", "-5", "abc", "[]", "[99]", "1.5", "{}"),
    "accelerator": ("abc", "gpu", "tpu", "3", "[]", "", "null"),
    "strategy": ("abc", "deepspeed", "fsdp", "3", "[]", "single_xla"),
    "precision": ("abc", "8", "bf8", "16-abc", "[]", "transformer-engine", "-1"),
    "num_nodes": ("0", "-1", "abc", "[]"),
    "max_epochs": ("abc", "-5", "1.5", "nan", "[]", "{}"),
    "min_epochs": ("abc", "-1", "[]"),
    "max_steps": ("abc", "-5", "1.5", "[]"),
    "max_time": ("abc", "-1", "[]", "1:2"),
    "limit_train_batches": ("abc", "-1", "1.5", "nan", "[]"),
    "limit_val_batches": ("abc", "-1", "1.5", "nan", "[]"),
    "overfit_batches": ("abc", "-1", "1.5", "nan"),
    "fast_dev_run": ("abc", "-1", "[]"),
    "val_check_interval": ("abc", "0", "-1", "2.5", "1000", "nan", "[]"),
    "check_val_every_n_epoch": ("abc", "0", "-1", "1.5", "[]"),
    "log_every_n_steps": ("abc", "-1", "1.5", "[]"),
    "accumulate_grad_batches": ("abc", "0", "-1", "1.5", "[]"),
    "num_sanity_val_steps": ("abc", "-2", "1.5", "[]"),
    "gradient_clip_val": ("abc", "-1", "nan", "[]"),
    "gradient_clip_algorithm": ("abc", "3", "[]"),
    "reload_dataloaders_every_n_epochs": ("abc", "-1", "1.5", "[]"),
    "profiler": ("abc", "3", "[]"),
    "plugins": ("abc", "3"),
    "deterministic": ("abc", "3"),
    "benchmark": ("abc", "3"),
    "enable_progress_bar": ("abc", "3"),
    "detect_anomaly": ("abc", "3"),
    "default_root_dir": ("a_file/runs", "/proc/nowhere"),
    "logger.init_args.save_dir": ("a_file/runs", "/proc/nowhere", "[]", ""),
    "logger.init_args.name": ("[]", "{}", "../../../../../../../../../../../../proc/nowhere"),
    "barebones": ("true", "abc"),
    "sync_batchnorm": ("abc",),
    "use_distributed_sampler": ("abc",),
}


@kind(fast=5)
def trainer_options() -> Iterator[Case]:
    pairs = [(option, bad) for option, values in TRAINER.items() for bad in values]
    for option, bad in rotated(pairs):
        yield fit("regression", f"--trainer.{option}={bad}")


@kind(fast=2)
def intervals_of_every_experiment() -> Iterator[Case]:
    zeros = ("check_val_every_n_epoch", "accumulate_grad_batches", "val_check_interval")
    for option, experiment in itertools.product(zeros, EXPERIMENTS):
        yield fit(experiment, f"--trainer.{option}=0")
    for experiment, (name, bad) in itertools.product(EXPERIMENTS, (("every_n_epochs", "-1"), ("save_top_k", "-7"))):
        callback = {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": {name: int(bad)}}
        yield fit(experiment, f"--trainer.callbacks={json.dumps([callback])}")


# ---- evaluate, figure, sweep, export -------------------------------------------------------------------------------


def _expert(*options: str, limit: int | None = None) -> Case:
    small = "--planner.init_args.solver.init_args.num_iterations=2"
    few = [] if "--closed_loop" in options else ["--seeds=1"]
    return Case(["evaluate", f"--config={CONFIGS / 'cartpole_expert.yaml'}", small, *few, *options], limit)


@kind(fast=45)
def evaluation() -> Iterator[Case]:
    counts = dict.fromkeys(("seeds", "episodes", "steps"), ("0", "-1", "abc", "1.5", "nan", "[]", ""))
    words = {"states": ("abc", "", "[]"), "closed_loop": ("abc", "3"), "keep_plans": ("abc", "3")}
    files = {
        "expert": ("nowhere.yaml", "binary.yaml", "list.yaml", ".", "empty.yaml"),
        "video": ("a.txt", "a", "", "1"),
    }
    for option, values in {**counts, **words, **files}.items():
        for bad in values:
            closed = [] if option in ("closed_loop", "seeds", "states") else ["--closed_loop"]
            yield _expert(*closed, f"--{option}={bad}")
    yield _expert("--episodes=101")
    yield _expert("--video=x.mp4")
    planner = read("cartpole_expert")["planner"]
    for option, value in options_in({"planner": planner}):
        for bad in nonsense(option, value):
            yield _expert(f"{option}={bad}")
    for option, value in options_in({"planner": {"init_args": {"latent_dim": 2, "num_solutions": 10, "grid_size": 5}}}):
        for bad in nonsense(option, value):
            yield Case(["evaluate", f"--config={CONFIGS / 'cartpole_pca.yaml'}", f"{option}={bad}"])
    shipped = f"--checkpoint={CHECKPOINTS / 'swingup_phase1_1.ckpt'}"
    for option in (
        "--states=validation",
        "--seeds=5",
        "--planner=lit_dcem.LatentPlanner",
        "--planner=lit_dcem.FullSpacePlanner",
    ):
        yield Case(["evaluate", shipped, "--episodes=1", option])
    yield Case(["evaluate", shipped, f"--config={CONFIGS / 'cartpole_expert.yaml'}", "--episodes=1"])


BAD_OUTPUTS = ("a_file/out", "/proc/nowhere/out", "/proc/out", "folder.ckpt", "nul\0", "x" * 300, ".")


@kind(fast=16)
def outputs() -> Iterator[Case]:
    dcem = str(CHECKPOINTS / "regression_dcem_0.ckpt")
    sweep = str(CONFIGS / "sweep_cartpole.yaml")
    for path in BAD_OUTPUTS:
        yield _expert(f"--out={path}")
        yield Case(["figure", "1", f"--out={path}"])
        yield Case(["export", dcem, path])
        if path not in (".", "folder.ckpt"):  # a folder is what these want
            yield Case(["sweep", sweep, f"--out={path}"])
            yield Case(["figure", "all", f"--out={path}"])
        video = path if path == "." else f"{path}.gif"
        if path != "folder.ckpt":
            yield _expert("--closed_loop", "--steps=2", "--episodes=1", f"--video={video}")
    yield Case(["figure", "1", "--out=figure.nothing"])
    yield Case(["figure", "1", "--out=figure"])
    yield Case(["figure", "1", "--out="])


@kind(fast=4)
def full_disk() -> Iterator[Case]:
    dcem = str(CHECKPOINTS / "regression_dcem_0.ckpt")
    yield _expert("--out=full.json", limit=10)
    yield _expert("--closed_loop", "--steps=2", "--episodes=1", "--video=full.gif", limit=10)
    yield Case(["export", dcem, "full.ckpt"], 1000)
    yield Case(["figure", "1", "--out=full.png"], 100)
    yield Case(["sweep", str(CONFIGS / "sweep_cartpole.yaml"), "--out=full"], 10)
    yield Case(fit("regression").arguments, 10)
    yield Case(fit("regression").arguments, 20_000)


@kind(fast=70)
def figures() -> Iterator[Case]:
    for number in ("0", "16", "-1", "1.5", "abc", "", "2000", "1e1", "nan", "all "):
        yield Case(["figure", number])
    for number in map(str, range(1, 16)):
        for run in ("nowhere", "a_file", "empty_run", "text.ckpt", "list.yaml"):
            yield Case(["figure", number, f"--run={run}"])
        if number not in ("1", "5", "6"):
            yield Case(["figure", number, "--run", "whole.ckpt"])
    yield Case(["figure", "all", "--run", "whole.ckpt"])


@kind(fast=30)
def sweeps() -> Iterator[Case]:
    good = str(CONFIGS / "sweep_cartpole.yaml")
    for name in BAD_SWEEPS:
        yield Case(["sweep", f"sweep_{name}.yaml", "--out=swept", "--jobs=1"])
    for option in ("--jobs=0", "--jobs=-1", "--jobs=x", "--jobs=1.5", "--budget=0", "--budget=-1", "--budget=nan"):
        yield Case(["sweep", good, option, "--out=swept"])
    for option in ("--budget=inf", "--budget=x", "--budget=0.01", "--backend=abc", "--backend="):
        yield Case(["sweep", good, option, "--out=swept"])
    for file in ("nowhere.yaml", ".", "", "whole.ckpt", str(CONFIGS / "cartpole.yaml")):
        yield Case(["sweep", file, "--out=swept"])


@kind(fast=10)
def exports() -> Iterator[Case]:
    dcem = str(CHECKPOINTS / "regression_dcem_0.ckpt")
    for source in ("nowhere", "empty_run", "text.ckpt", "cut.ckpt", "a_file"):
        yield Case(["export", source, "out.ckpt"])
    yield Case(["export", "whole.ckpt", "whole.ckpt"])
    yield Case(["export", dcem, "a_run/checkpoints/last.ckpt"])
    yield Case(["export", "a_run", "a_run/checkpoints/last.ckpt"])
    yield Case(["export", dcem, ""])
    yield Case(["export", "", "out.ckpt"])
