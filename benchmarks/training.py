"""Measure PlaNet's training loop and its parts: model updates, replay and environments. See README.md."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import pytorch_lightning as pl
import torch
from measure import Case, Row, Work, time_case
from options import options, parse
from planet_peers import HAS_TORCHRL, PlainModel, TorchrlModel, matrix_products
from pytorch_lightning.cli import LightningCLI
from report import plain_table, provenance, timing_table, write_report
from rich.console import Console
from torch import nn

from lit_dcem import WorldModel
from lit_dcem.envs.make import make
from lit_dcem.planet.data.episode import Episode
from lit_dcem.planet.data.replay import EpisodeReplay

OBSERVATIONS, ACTIONS = 17, 6
BATCH, LENGTH = 50, 50
EPISODES, STEPS = 400, 250
"""episodes of the replay, and steps of each: 100,000 steps in all"""
CONFIG = Path(__file__).parents[1] / "configs" / "phase1.yaml"
LOOP_EPISODES = 6
"""episodes of the whole loop, without the seed episodes and the first one"""
QUICK_EPISODES = 1


def main() -> None:
    """Measure the parts and the whole loop, print tables, and write them to ``--out`` if given."""
    parser = options(__doc__, rounds=7, precisions=True)
    parser.add_argument("--no-loop", action="store_true", help="measure only the parts; the whole loop takes minutes")
    args = parse(parser)
    torch.set_flush_denormal(True)  # as lit-dcem fit does
    torch.manual_seed(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for threads in args.threads:
            for case in (update_case(), replay_case(Path(folder) / str(threads))):
                rows += time_case(case, threads, args.rounds)
        environments = [environment_speed(count) for count in (1, 4)]
        episodes = QUICK_EPISODES if args.quick else LOOP_EPISODES
        loop = (
            {} if args.no_loop else loop_speed(max(args.threads), Path(folder) / "loop", episodes, args.precisions[-1])
        )
    _print(rows, environments, loop)
    if args.out:
        report = {**provenance(args.threads, args.rounds), "timing": [asdict(row) for row in rows]}
        report |= {"environments": environments, "loop": loop}
        write_report(args.out, report)


def update_case() -> Case:
    """Make the case of a model update: loss, gradients, clipping and Adam on 50 sequences of 50 steps."""
    batch = torch.randn(LENGTH, BATCH, OBSERVATIONS), torch.rand(LENGTH, BATCH, ACTIONS), torch.rand(LENGTH, BATCH)
    ours, plain = WorldModel(OBSERVATIONS, ACTIONS), PlainModel(OBSERVATIONS, ACTIONS)
    peers = {"plain tensors": _update(plain, lambda: plain.loss(*batch))}
    if HAS_TORCHRL:
        theirs = TorchrlModel(OBSERVATIONS, ACTIONS)
        peers["torchrl RSSM"] = _update(theirs, lambda: theirs.loss(*batch))
    once = matrix_products(ours, BATCH, torch.float32, LENGTH)
    floor = "matrix products of imagining so many steps, three times"
    return Case("model update 50 x 50", _update(ours, lambda: ours.loss(*batch).total), peers, floor, _thrice(once))


def _thrice(work: Work) -> Work:
    return lambda: [work() for _ in range(3)]


def _update(model: nn.Module, loss: Any) -> Work:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4)

    def update() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1000.0)
        optimizer.step()

    return update


def replay_case(folder: Path) -> Case:
    """Make the case of sampling 50 sequences of 50 rows from a replay of 100,000 steps."""
    replay = EpisodeReplay(folder, OBSERVATIONS, ACTIONS)
    for _ in range(EPISODES):
        parts = torch.randn(STEPS + 1, OBSERVATIONS), torch.rand(STEPS, ACTIONS), torch.rand(STEPS)
        replay.append(Episode(*parts, terminated=False))
    table, columns = (
        np.random.rand(EPISODES * (STEPS + 1), OBSERVATIONS + ACTIONS + 3).astype(np.float32),
        np.arange(LENGTH),
    )
    generator = torch.Generator().manual_seed(0)
    starts = np.random.randint(len(table) - LENGTH, size=BATCH)
    peers = (
        {"torchrl SliceSampler": _slices()}
        if HAS_TORCHRL
        else {"numpy gather": lambda: table[starts + columns[:, None]]}
    )
    return Case(
        "replay: 50 x 50 of 100k steps",
        lambda: replay.sample(BATCH, LENGTH, generator),
        peers,
        "numpy gather of the rows",
        lambda: table[starts + columns[:, None]],
    )


def _slices() -> Work:
    data, tensordict = import_module("torchrl.data"), import_module("tensordict").TensorDict
    rows = EPISODES * STEPS
    sampler = data.SliceSampler(slice_len=LENGTH, traj_key="episode", cache_values=True)
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyTensorStorage(rows), sampler=sampler, batch_size=BATCH * LENGTH
    )
    parts = {"observation": torch.randn(rows, OBSERVATIONS), "action": torch.rand(rows, ACTIONS)}
    parts |= {"reward": torch.rand(rows), "episode": torch.arange(EPISODES).repeat_interleave(STEPS)}
    buffer.extend(tensordict(parts, [rows]))
    return buffer.sample


class Cheetah(gymnasium.Env[Any, Any]):
    """One of our environments with gymnasium's interface, for its worker processes."""

    def __init__(self) -> None:
        self.envs = make("cheetah-run", 1, 4)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.envs.reset()[0].numpy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        steps = self.envs.step(torch.from_numpy(action)[None])
        return steps.observations[0].numpy(), steps.rewards.item(), False, bool(steps.truncated), {}


def environment_speed(count: int, steps: int = 500) -> dict[str, float]:
    """Measure agent steps a second of cheetahs, action repeat 4, in our process and in gymnasium's workers."""
    actions = 2 * torch.rand(steps, count, ACTIONS) - 1
    envs = make("cheetah-run", count, 4)

    def ours() -> None:
        envs.reset()
        for action in actions.unbind():
            if (ended := envs.step(action).ended).any():
                envs.reset(ended)

    workers = gymnasium.vector.AsyncVectorEnv([Cheetah] * count, context="spawn")

    def theirs() -> None:
        workers.reset()
        for action in actions.numpy():
            workers.step(action)

    try:
        rates = {name: _rate(work, count * steps) for name, work in (("in process", ours), ("workers", theirs))}
    finally:
        workers.close()
    return {"environments": count, **rates}


def _rate(work: Work, steps: int) -> float:
    work()
    started = time.perf_counter()
    work()
    return steps / (time.perf_counter() - started)


def loop_speed(threads: int, folder: Path, episodes: int, precision: str) -> dict[str, float]:
    """Measure simulator steps a second and shares of the time of the fast preset: medians after the first episode."""
    torch.set_num_threads(threads)
    arguments = [
        "--config",
        str(CONFIG),
        "--trainer.logger=false",
        "--trainer.callbacks=[]",
        f"--trainer.default_root_dir={folder}",
        f"--model.init_args.planner.init_args.precision={precision}",
    ]
    quiet = [
        f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    ]
    epochs = [f"--trainer.max_epochs={episodes + 1}", "--trainer.limit_val_batches=0", "--trainer.accelerator=cpu"]
    with contextlib.redirect_stdout(io.StringIO()):
        with patch.object(sys, "argv", sys.argv[:1]):  # LightningCLI would warn about other arguments
            cli = LightningCLI(args=[*arguments, *quiet, *epochs], run=False, save_config_callback=None)
        watch = Watch()
        cli.trainer.callbacks.append(watch)  # pyright: ignore[reportAttributeAccessIssue]
        cli.trainer.fit(cli.model, cli.datamodule)
    return {name: float(np.median([row[name] for row in watch.rows[1:]])) for name in watch.rows[0]}


class Watch(pl.Callback):
    """Keeps the speed report of each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.rows.append(pl_module._spent.report())


def _print(rows: list[Row], environments: list[dict[str, float]], loop: dict[str, float]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(timing_table(rows))
    table = plain_table("Agent steps a second, cheetah", *environments[0])
    for row in environments:
        table.add_row(*(f"{value:.0f}" for value in row.values()))
    console.print(table)
    if loop:
        table = plain_table(f"The whole loop, {CONFIG.stem}", *loop)
        table.add_row(*(f"{value:.3g}" for value in loop.values()))
        console.print(table)


if __name__ == "__main__":
    main()
