"""Measure training updates and plans of the cartpole experiment with its shipped configs. See README.md."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: idle OpenMP workers must not spin

import torch
from measure import Case, Row, Work, time_case
from options import options, parse
from pytorch_lightning.cli import LightningCLI
from report import provenance, timing_table, write_report
from rich.console import Console
from torch import Tensor

from lit_dcem import CartpoleEmbedding
from lit_dcem.cartpole import module as cartpole_embedding
from lit_dcem.cartpole.dynamics import reward, rollout_cost, step
from lit_dcem.cartpole.states import initial_states, validation_states

CONFIGS = Path(__file__).parents[1] / "configs"
STATES = {"cartpole": 16, "cartpole_paper": 1}
"""states an update in each config"""


def main() -> None:
    """Measure both configs, print a table, and write it to ``--out`` if given."""
    args = parse(options(__doc__, rounds=15))
    torch.set_flush_denormal(True)  # as lit-dcem fit does
    rows: list[Row] = []
    for threads in args.threads:
        for name, num_states in STATES.items():
            for case in cases(name, num_states):
                rows += time_case(case, threads, args.rounds)
    Console(width=None if sys.stdout.isatty() else 120).print(timing_table(rows))
    if args.out:
        report = {**provenance(args.threads, args.rounds), "timing": [asdict(row) for row in rows]}
        write_report(args.out, report)


def cases(config: str, num_states: int) -> Iterator[Case]:
    """Make the cases of a config: a training update, and plans for the 100 validation states."""
    module = built(config)
    states = initial_states(num_states, torch.Generator().manual_seed(0))
    update = updates(module, states)
    network = network_update(module, states, module.training_solver.num_evaluations or 0)
    peer = {"step by step": stepping(update)}
    yield Case(f"{config}: update, {num_states} states", update, peer, "decoder alone", network)
    planning = torch.no_grad()(lambda: module(validation_states()))
    latents = torch.zeros(100, module.solver.num_evaluations or 0, module.decoder.latent_dim)
    decoding = torch.no_grad()(lambda: module.decode(latents))
    yield Case(
        f"{config}: plans, 100 states", planning, {"step by step": stepping(planning)}, "decoder alone", decoding
    )


def built(config: str) -> CartpoleEmbedding:
    """Build the module of a shipped config."""
    arguments = ["--config", str(CONFIGS / f"{config}.yaml"), "--trainer.accelerator=cpu"]
    with patch.object(sys, "argv", sys.argv[:1]):  # LightningCLI would warn about other arguments
        return LightningCLI(args=arguments, run=False, save_config_callback=None).model


def updates(module: CartpoleEmbedding, states: Tensor) -> Work:
    """Make a training update: loss, gradients, clipping, Adam."""
    parameters = list(module.decoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-6)

    def update() -> None:
        optimizer.zero_grad()
        module.loss(states).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return update


def network_update(module: CartpoleEmbedding, states: Tensor, num_candidates: int) -> Work:
    """Make a forward and backward pass of the decoder on ``num_candidates``, without search and dynamics."""
    latents = torch.zeros(len(states), num_candidates, module.decoder.latent_dim)
    return lambda: module.decode(latents).sum().backward()


def stepping(work: Work) -> Work:
    """Make the same work with the rollout written as in its definition, a loop over `step` and `reward`."""

    def cost(states: Tensor, forces: Tensor) -> Tensor:
        state = states.unsqueeze(-2).expand(*forces.shape[:-1], 5)
        total = torch.zeros_like(forces[..., 0])
        for force in forces.unbind(-1):
            total = total - reward(state, force)
            state = step(state, force)
        return total

    def slow() -> None:
        cartpole_embedding.rollout_cost = cost
        try:
            work()
        finally:
            cartpole_embedding.rollout_cost = rollout_cost

    return slow


if __name__ == "__main__":
    main()
