"""Files that no command can use, and a few good ones to use wrongly: the material of `bad_input`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).parents[2]
CONFIGS, CHECKPOINTS = ROOT / "configs", ROOT / "checkpoints"
BAD_YAML: dict[str, bytes] = {
    "binary": bytes(range(256)) * 4,
    "zeros": bytes(64),
    "utf16": "trainer: {max_epochs: 1}\n".encode("utf-16"),
    "latin1": b"name: caf\xe9\n",
    "empty": b"",
    "comment": b"# nothing\n",
    "list": b"- 1\n- 2\n",
    "word": b"regression\n",
    "number": b"3.5\n",
    "recursive": b"trainer: &a\n  again: *a\n",
    "recursive_list": b"trainer: &a [*a]\n",
    "unknown_anchor": b"trainer: *nowhere\n",
    "tab": b"trainer:\n\tmax_epochs: 1\n",
    "unclosed": b"trainer: {max_epochs: 1\n",
    "two_documents": b"trainer: {}\n---\ntrainer: {}\n",
    "python_tag": b"trainer: !!python/object/apply:os.getcwd []\n",
    "unknown_tag": b"trainer: !thing 3\n",
    "deep": b"[" * 3000,
    "number_as_key": b"1: 2\n",
    "null_as_key": b"null: 2\n",
    "list_as_key": b"? [1, 2]\n: 3\n",
    "unknown_key": b"trianer: {max_epochs: 1}\n",
    "unknown_nested_key": b"trainer: {max_epoch: 1}\n",
}
PARTS = {
    "trainer": [None, [], [1], "abc", 3, True],
    "model": [None, [], [{"class_path": "lit_dcem.EnergyRegression"}], "abc", 3, {"class_path": None}],
    "data": [None, [], [{"class_path": "lit_dcem.RegressionData"}], "abc", 3, {"class_path": None}],
    "model.init_args": [[], "abc", 3],
    "data.init_args": [[], "abc", 3],
    "model.init_args.energy": [None, [], 3, {"class_path": 3}],
    "model.init_args.solver": [None, [], 3, {"class_path": []}],
    "model.init_args.optimizer": [[], 3, {"class_path": None}],
    "model.init_args.lr_scheduler": [[], 3, {"class_path": 3}],
    "trainer.callbacks": [3, "abc", [None], [3], [{"class_path": 3}], {"a": 1}],
    "trainer.logger": [3, "abc", {"a": 1}, [None], {"class_path": None}],
    "trainer.logger.init_args": [[], "abc", 3],
    "seed_everything": [None, [], {}, "abc"],
    "ckpt_path": [[], {}],
}
"""what a part of a config must not be"""
SWEEP: dict[str, Any] = yaml.safe_load((CONFIGS / "sweep_cartpole.yaml").read_text())
BAD_SWEEPS: dict[str, dict[str, Any]] = {
    "no_grid": {"grid": None},
    "grid_list": {"grid": [1]},
    "grid_value": {"grid": {"seed_everything": 0}},
    "grid_empty": {"grid": {"seed_everything": []}},
    "grid_twice": {"grid": {"seed_everything": [0, 0]}},
    "metric": {"metric": 3},
    "metric_empty": {"metric": ""},
    "configs_word": {"configs": "cartpole.yaml"},
    "configs_missing": {"configs": ["nowhere.yaml"]},
    "configs_number": {"configs": [3]},
    "arguments_list": {"arguments": [1]},
    "argument_in_grid": {"arguments": {"seed_everything": 1}},
    "unknown": {"budget": 3},
    "mode": {"mode": "best"},
    "evaluation": {"evaluation": {"episodes": -1}},
    "evaluation_word": {"evaluation": "all"},
    "chains_too": {"chains": {"a": [{"configs": ["cartpole.yaml"]}]}},
}
"""what a part of a sweep's file must not be"""


def mutated(whole: dict[str, Any]) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Ways to spoil the content of a checkpoint."""
    first = next(iter(whole["state_dict"]))

    def put(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda content: {**content, name: value}

    def argument(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda content: {**content, "hyper_parameters": {**content["hyper_parameters"], name: value}}

    def weight(value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda content: {**content, "state_dict": {**content["state_dict"], first: value}}

    def absurd(content: dict[str, Any]) -> dict[str, Any]:
        content["hyper_parameters"]["energy"]["init_args"]["hidden_dim"] = 10**15
        return content

    return {
        "list": lambda _: [1, 2],
        "tensor": lambda _: torch.ones(3),
        "empty_dict": lambda _: {},
        "weights_none": put("state_dict", None),
        "weights_list": put("state_dict", [1]),
        "weights_empty": put("state_dict", {}),
        "weights_numbers": put("state_dict", {1: 2}),
        "weight_text": weight("abc"),
        "weight_none": weight(None),
        "weight_shape": weight(torch.ones(3, 1, 4)),
        "weight_dtype": weight(whole["state_dict"][first].to(torch.complex64)),
        "config_none": put("hyper_parameters", None),
        "config_list": put("hyper_parameters", [1]),
        "config_text": put("hyper_parameters", "abc"),
        "config_numbers": put("hyper_parameters", {1: 2}),
        "class_none": argument("_class_path", None),
        "class_number": argument("_class_path", 3),
        "class_unknown": argument("_class_path", "lit_dcem.Nothing"),
        "class_module": argument("_class_path", "lit_dcem.cli.main"),
        "class_function": argument("_class_path", "lit_dcem.dcem"),
        "class_foreign": argument("_class_path", "os.system"),
        "class_of_data": argument("_class_path", "lit_dcem.RegressionData"),
        "argument_unknown": argument("nonsense", 3),
        "argument_none": argument("energy", None),
        "argument_text": argument("solver", "abc"),
        "argument_range": argument("initial_std", -1.0),
        "absurd_size": absurd,
        "step_text": put("global_step", "abc"),
        "callbacks_list": put("callbacks", [1]),
        "history_text": put("callbacks", {"History": "abc"}),
        "history_rows": put("callbacks", {"History": {"rows": 3}}),
        "history_row": put("callbacks", {"History": {"rows": [3]}}),
    }


def write_material(folder: Path, whole: Path) -> None:
    """Everything that cases name, into a folder; ``whole`` is a good checkpoint of a regression."""
    for name, content in BAD_YAML.items():
        (folder / f"{name}.yaml").write_bytes(content)
    for name, change in BAD_SWEEPS.items():
        changed = {"configs": [str(CONFIGS / "cartpole.yaml")], **{k: v for k, v in SWEEP.items() if k != "configs"}}
        (folder / f"sweep_{name}.yaml").write_text(yaml.safe_dump({**changed, **change}))
    for part, values in PARTS.items():
        for index, value in enumerate(values):
            (folder / f"part_{part}_{index}.yaml").write_text(yaml.safe_dump(_nested(part, value)))
    _write_checkpoints(folder, whole)


def _write_checkpoints(folder: Path, whole: Path) -> None:
    data, content = whole.read_bytes(), torch.load(whole, weights_only=True)
    (folder / "a_run" / "checkpoints").mkdir(parents=True)
    for path in ("whole.ckpt", "a_run/checkpoints/last.ckpt"):
        (folder / path).write_bytes(data)
    (folder / "cut.ckpt").write_bytes(data[: len(data) // 2])
    (folder / "nearly.ckpt").write_bytes(data[:-100])
    (folder / "empty.ckpt").write_bytes(b"")
    (folder / "text.ckpt").write_text("weights\n")
    (folder / "zeros.ckpt").write_bytes(bytes(4096))
    (folder / "binary.ckpt").write_bytes(bytes(range(256)) * 16)
    (folder / "folder.ckpt").mkdir()
    (folder / "empty_run" / "checkpoints").mkdir(parents=True)
    (folder / "a_file").write_text("in the way\n")
    for name, spoil in mutated(content).items():
        torch.save(spoil(copy.deepcopy(content)), folder / f"spoiled_{name}.ckpt")


def _nested(part: str, value: Any) -> Any:
    for name in reversed(part.split(".")):
        value = {name: value}
    return value


def read(*names: str) -> dict[str, Any]:
    """Shipped configs, the later one winning."""
    whole: dict[str, Any] = {}
    for name in names:
        config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        whole = _merged(whole, config, config.pop("only_what_is_there", False))
    return whole


def _merged(whole: dict[str, Any], config: dict[str, Any], only_what_is_there: bool) -> dict[str, Any]:
    both = dict(whole)
    for name, value in config.items():
        if isinstance(value, dict) and isinstance(whole.get(name), dict):
            both[name] = _merged(whole[name], value, only_what_is_there)
        elif name in whole or not only_what_is_there:
            both[name] = value
    return both
