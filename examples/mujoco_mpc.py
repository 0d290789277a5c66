"""Control a task of dm_control by planning in its true physics, with the improved CEM of iCEM (arXiv 2008.06389).

Coloured noise, kept elites and a warm start make do with few candidates. Prints the return of one episode, and how long
a decision takes on the clock and in seconds of a processor::

    python examples/mujoco_mpc.py --task cheetah-run --threads 1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lit_dcem import DCEM, Physics, Planner


def main() -> None:
    """Run one episode."""
    options = parsed()
    physics = Physics(options.task, options.action_repeat, options.threads)
    planner = planner_in(physics, options)
    torch.manual_seed(options.seed)
    busy = time.process_time()
    total, seconds, states = episode(physics, planner, options)
    busy, decisions = time.process_time() - busy, len(seconds)
    print(f"{options.task}, seed {options.seed}: return {total:.1f} in {decisions * physics.action_repeat} steps")
    print(f"seconds a decision: {np.median(seconds):.3f} (median), {busy / decisions:.3f} of a processor (mean)")
    if options.video:
        from lit_dcem.training.video import write_video

        pictures: Iterator[np.ndarray] = (physics.render(state[0]) for state in states)
        write_video(options.video, pictures, 25)


def planner_in(physics: Physics, options: argparse.Namespace) -> Planner:
    """The planner of the command line's options."""
    solver = DCEM(
        num_candidates=options.candidates,
        num_elites=options.elites,
        num_iterations=options.iterations,
        temperature=0.0,
        num_kept=options.kept,
        noise_exponent=options.noise_exponent,
        horizon=options.horizon,
        momentum=options.momentum,
    )
    bounds = {"lower": physics.lower, "upper": physics.upper, "std": options.std}
    shape = options.horizon, len(physics.lower)
    kept = {"keep_plans": options.keep_plans, "knots": options.knots or None}
    return Planner(physics, solver, *shape, answer=options.answer, **bounds, **kept)


def episode(
    physics: Physics, planner: Planner, options: argparse.Namespace
) -> tuple[float, list[float], list[torch.Tensor]]:
    """Return, seconds of each decision, and states of an episode in closed loop."""
    state, memory, total, seconds, states = physics.reset(options.seed), None, 0.0, [], []
    for step in range(options.steps // physics.action_repeat):
        began = time.perf_counter()
        action, memory = planner.act(state, memory)
        seconds.append(time.perf_counter() - began)
        total += physics.reward(state, action).item()
        state = physics.step(state, action)
        states.append(state)
        if options.verbose and step % 10 == 9:
            print(f"step {(step + 1) * physics.action_repeat}: return {total:.1f}", flush=True)
    return total, seconds, states


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--task", default="cheetah-run", help="a task of the dm_control suite")
    add("--steps", type=int, default=1000, help="simulator steps in the episode")
    add("--action_repeat", type=int, help="simulator steps for each action; by default those usual for the task")
    add("--horizon", type=int, default=16, help="actions in a plan")
    add("--candidates", type=int, default=40, help="in each iteration")
    add("--elites", type=int, default=4)
    add("--iterations", type=int, default=4)
    add("--kept", type=int, default=3, help="best candidates of an iteration that are candidates of the next")
    add("--knots", type=int, default=0, help="search over knots in time; 0 for the actions themselves")
    add("--std", type=float, default=0.5, help="of the first candidates")
    add("--noise_exponent", type=float, default=1.0, help="colour of the noise: 0 white, 1 pink, 2 red")
    add("--momentum", type=float, default=0.0)
    add("--answer", choices=["mean", "best"], default="best")
    add("--keep_plans", action="store_true", help="follow the last plan unless a new one promises more")
    add("--threads", type=int, help="of the simulation; by default one for each processor")
    add("--seed", type=int, default=0)
    add("--video", type=Path, help="write a film of the episode, .mp4 or .gif")
    add("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
