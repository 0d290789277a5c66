"""Values that the options of a config cannot have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from lit_dcem.cli.configs import leaves

ANY_NUMBER = {"lower", "upper", "x_offset", "x_scale", "y_scale", "eta_min", "last_epoch", "cooldown"}
"""may be negative, by themselves"""
MAY_BE_ZERO = {
    *("temperature", "num_kept", "noise_exponent", "min_std", "initial_replay", "logit_cost", "free_nats", "kl_weight"),
    *("observation_weight", "reward_weight", "answer", "best", "elites", "exploration_noise", "update_interval"),
    *(
        "num_layers",
        "seed_updates",
        "value_steps",
        "patience",
        "seed",
        "lr",
        "eps",
        "policy_weight",
        "kl_balance",
        "momentum",
    ),
}
SIZES = {"hidden_dim", "deter_dim", "stoch_dim", "latent_dim", "num_candidates", "batch_size", "num_elites"}
"""what memory is made for, so that too large is a mistake of its own"""


def nonsense(option: str, value: Any) -> list[str]:
    """Values that an option cannot have."""
    name = option.rpartition(".")[2]
    values = ["abc", "[]", "{}"]
    if isinstance(value, bool):
        return [*values, "3"]
    if isinstance(value, str):
        return ["[]", "{}", "no such thing"]
    values += ["nan", ".nan", "inf", "1e400", "-.inf"]
    if name in ("lower", "upper"):  # no bound on that side
        values = [value for value in values if value not in {"lower": ("-.inf",), "upper": ("inf", "1e400")}[name]]
    if name not in ANY_NUMBER:
        values += ["-1"] if name in MAY_BE_ZERO else ["0", "-1"]
    if isinstance(value, int):
        capped = option.endswith("loss.num_elites")  # at the number of candidates
        values += ["1.5", str(10**15)] if name in SIZES and not capped else ["1.5"]
    return values


def options_in(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options and values of a config, however deep; without those that name a class."""
    return ((f"--{name}", value) for name, value in leaves(config) if not name.endswith("class_path"))


def rotated(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same, such that the first ones have each option once, with changing values."""
    groups = [list(group) for _, group in itertools.groupby(pairs, key=lambda pair: pair[0])]
    turned = [group[i % len(group) :] + group[: i % len(group)] for i, group in enumerate(groups)]
    return [pair for row in itertools.zip_longest(*turned) for pair in row if pair is not None]
