"""Small runs of the phases of PlaNet, cut off and resumed in every way."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from support.command_runs import assert_equal

from lit_dcem import DCEM, CEMPlanner, PlanetPhase1, Rollouts, WorldModel
from lit_dcem.training.history import History
from lit_dcem.training.random_states import RandomStates

SIZES = {"hidden_dim": 8, "num_layers": 1, "rssm": {"deter_dim": 8, "stoch_dim": 3}}
SEARCH = {"num_candidates": 8, "num_elites": 3, "num_iterations": 2, "temperature": 0.0, "lower": -1.0, "upper": 1.0}
ROLLOUTS = {
    "env": "Pendulum-v1", "action_repeat": 20, "num_envs": 2, "batch_size": 4, "sequence_length": 5, "seed": 3,
    "update_interval": 3, "updates_per_epoch": 5, "seed_episodes": 2, "seed_updates": 4, "evaluation_episodes": 3,
}  # fmt: skip
STARTS = {
    "phase2": "cheetah_phase1_fast_0",
    "phase2_dcem": "cheetah_phase1_fast_0",
    "phase2_paper": "cheetah_phase1_fast_0",
    "phase3": "cheetah_phase2_fast_0",
    "phase3_paper": "cheetah_phase2_fast_0",
    "swingup_phase2": "swingup_phase1_1",
    "swingup_phase3": "swingup_phase2_1",
}
"""shipped checkpoints that later phases start from"""


def parts(model=None, **rollouts):
    world_model = WorldModel(3, 1, **SIZES)
    planner = CEMPlanner(DCEM(**SEARCH), horizon=3, warm_start=True, **(model or {}))
    return PlanetPhase1(world_model, planner, normalize=True), Rollouts(**{**ROLLOUTS, **rollouts})


def fit(path, max_epochs=6, resume=None, devices=1, slow=0.0, make=parts, also=(), **options):
    """Train; ``slow`` seconds between the updates leave a moment to kill the process; ``also``: more callbacks."""
    path = Path(path)
    pl.seed_everything(0, verbose=False)
    model, data = make(**options)
    saving = {"every_n_train_steps": 3, "filename": "last", "enable_version_counter": False}
    callbacks = [RandomStates(), History(), Losses(path, slow), ModelCheckpoint(dirpath=path, **saving), *also]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=max_epochs, devices=devices, default_root_dir=path, callbacks=callbacks, num_sanity_val_steps=0,
        check_val_every_n_epoch=2, **quiet,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=resume)
    return model, data, trainer


class Losses(pl.Callback):
    """Writes losses and returns to a file, a line an update, so that a killed process leaves them."""

    def __init__(self, path, slow):
        self.path, self.slow = path, slow

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f"losses_{trainer.global_rank}.txt").open("a") as file:
            line = f"{trainer.global_step} {outputs['loss'].item()!r} {batch.returns.tolist()} {batch.simulator_steps}"
            print(line, file=file, flush=True)
        time.sleep(self.slow)


def lines(path, rank=0):
    """What each update wrote last."""
    text = (path / f"losses_{rank}.txt").read_text()
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {int(line.split()[0]): line for line in whole}


def assert_same(first, second):
    """Checkpoints are the same in all that a run depends on."""
    states = [torch.load(path / "last.ckpt", weights_only=True) for path in (first, second)]
    for history in (state["callbacks"]["History"] for state in states):
        del history["seconds"]
        for row in history["rows"]:
            del row["seconds"], row["val/seconds_per_decision"]
    data = next(name for name in states[0] if name.endswith("Rollouts"))
    for name in ("state_dict", "optimizer_states", data, "global_step"):
        assert_equal(states[0][name], states[1][name], name)
    assert_equal(states[0]["callbacks"]["History"], states[1]["callbacks"]["History"], "History")


TESTS = [str(Path(__file__).parents[1] / folder) for folder in (".", "planet")]
SCRIPT = "import pathlib, sys, torch; sys.path[:0] = {tests!r}; import {module} as t; "
CALL = (
    "torch.set_num_threads(1); p = pathlib.Path({path!r}); l = p / 'last.ckpt'; "
    "t.fit(p, resume=l if l.exists() else None, slow=0.02, make=t.parts)"
)


def process(path, module):
    code = (SCRIPT + CALL).format(tests=TESTS, path=str(path), module=module)
    with (path.parent / "errors.txt").open("w") as errors:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=errors)


def updates(path):
    file = path / "losses_0.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


def assert_killed_run_goes_on(path, kills, module=__name__):
    """Kill a run after random numbers of updates, at any point of what follows them; in the end it is as if never."""
    assert process(path / "whole", module).wait(900) == 0
    killed, chance = path / "killed", random.Random(0)
    for _ in range(kills):
        running, target = process(killed, module), updates(killed) + chance.randint(1, 30 // kills + 1)
        # Before there is a checkpoint, there is nothing to go on from.
        while running.poll() is None and (updates(killed) < target or not (killed / "last.ckpt").exists()):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        running.kill()
        running.wait()
    assert process(killed, module).wait(900) == 0, (path / "errors.txt").read_text()
    assert lines(killed) == lines(path / "whole")
    assert_same(killed, path / "whole")


DISTRIBUTED = (
    "torch.set_num_threads(1); p = pathlib.Path({path!r}); "
    "t.fit(p, 2, devices=2, make=t.parts); t.fit(p, 4, devices=2, resume=p / 'last.ckpt', make=t.parts)"
)


def distributed(path, module=__name__):
    """What two processes wrote, in a run that went on once, and its last checkpoint."""
    script = path / "script.py"
    script.write_text((SCRIPT + DISTRIBUTED).format(tests=TESTS, path=str(path), module=module))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return [lines(path, rank) for rank in range(2)], torch.load(path / "last.ckpt", weights_only=True)
