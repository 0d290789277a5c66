"""Damaged, foreign and malformed checkpoints are one sentence, and fill no memory."""

import os
import pickle
import random
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.files.shipped import shipped
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.training.checkpoint import Checkpoint

REGRESSION = shipped("checkpoints") / "regression_gd_0.ckpt"
PHASE1 = shipped("checkpoints") / "swingup_phase1_1.ckpt"
WEIGHT = "energy.layers.0.weight"


def whole():
    return torch.load(REGRESSION, weights_only=True)


def written(content, **options):
    torch.save(content, "bad.ckpt", **options)


def cut(share):
    source = REGRESSION.read_bytes()
    return lambda: Path("bad.ckpt").write_bytes(source[: int(share * len(source))])


def packed():
    with zipfile.ZipFile(REGRESSION) as source, zipfile.ZipFile("bad.ckpt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))


def without_pickle():
    with zipfile.ZipFile(REGRESSION) as source, zipfile.ZipFile("bad.ckpt", "w") as target:
        for name in source.namelist():
            if not name.endswith("data.pkl"):
                target.writestr(name, source.read(name))


def foreign_zip():
    with zipfile.ZipFile("bad.ckpt", "w") as target:
        target.writestr("readme.txt", "hello")


def other_code():
    with zipfile.ZipFile(REGRESSION) as source, zipfile.ZipFile("bad.ckpt", "w") as target:
        for name in source.namelist():
            target.writestr(name, pickle.dumps(os.system) if name.endswith("data.pkl") else source.read(name))


def numpy_archive():
    np.savez("bad.npz", state_dict=np.ones(3))
    Path("bad.npz").rename("bad.ckpt")


FILES = {
    "missing": lambda: None,
    "empty": lambda: Path("bad.ckpt").touch(),
    "a folder": lambda: Path("bad.ckpt").mkdir(),
    "a link to nothing": lambda: Path("bad.ckpt").symlink_to("nowhere"),
    "a pipe": lambda: os.mkfifo("bad.ckpt"),
    "text": lambda: Path("bad.ckpt").write_text("weights: none\n"),
    "a picture": lambda: Path("bad.ckpt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "a pickle": lambda: Path("bad.ckpt").write_bytes(pickle.dumps({"state_dict": {}, "global_step": 0})),
    "NumPy's archive": numpy_archive,
    "torch's old format": lambda: written(whole(), _use_new_zipfile_serialization=False),
    "compressed": packed,
    "no pickle": without_pickle,
    "another archive": foreign_zip,
    "code in its pickle": other_code,
    "its first byte": cut(1e-5),
    "a quarter of it": cut(0.25),
    "half of it": cut(0.5),
    "almost all of it": cut(0.999),
    "more at its end": lambda: Path("bad.ckpt").write_bytes(REGRESSION.read_bytes() + b"more"),
    "more at its beginning": lambda: Path("bad.ckpt").write_bytes(b"more" + REGRESSION.read_bytes()),
}
CONTENTS = {"a list": [{}], "a tensor": torch.ones(3), "nothing": None, "no names": {}, "numbers for names": {0: {}}}
ENTRIES = {
    "state_dict": [None, [], "weights", 3, {}, {1: torch.ones(1)}],
    "global_step": [None, "10", -1, 1.5, True, [1]],
    "epoch": ["first", None],
    "hyper_parameters": [None, [], "lit_dcem.EnergyRegression", {}, {1: 2}, {"_class_path": None}],
    "callbacks": [
        [],
        "History",
        {1: 2},
        {"History": []},
        {"History": {"rows": "x"}},
        {"History": {"rows": [{"a": 1}]}},
    ],
}
WEIGHTS = {
    "none": None,
    "a number": 1.0,
    "a list": [1.0],
    "text": "x",
    "another shape": torch.ones(2, 2),
    "an absurd shape": torch.ones(1).expand(10**9, 10**9),
    "sparse": torch.eye(2).to_sparse(),
    "complex": torch.ones(128, 2, dtype=torch.complex64),
}
OPTIONS = {
    "_class_path": ["lit_dcem.Nope", "lit_dcem.DCEM", "lit_dcem.RegressionData", "nowhere.Mine", "Mine", 3, ""],
    "energy": [
        None,
        3,
        "x",
        {"class_path": "lit_dcem.EnergyNetwork", "init_args": None},
        {"class_path": "lit_dcem.Nope"},
    ],
    "solver": [None, 3, [], {"class_path": "lit_dcem.EnergyNetwork"}],
    "optimizer": [3, {"class_path": "torch.optim.Adam", "init_args": {"lr": "x"}}, {"class_path": "torch.optim.Nope"}],
    "initial_std": ["x", None, [1], {"a": 1}],
    "loss_iterations": ["x", 0, -1, 1.5],
    "more": [1],
}
SIZES = {
    "output_dim": [10**9],
    "hidden_dim": ["x", None, -1, 1.5, 9, 10**6, 10**9, 10**18, 10**40],
    "num_layers": ["x", -1, 2, 10**5, 10**9],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def check(capsys, *arguments):
    """One sentence that names the file, exit code 2, and no more memory than reading takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SystemExit) as exit_:
        main(arguments or ["figure", "5", "--run", "bad.ckpt"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    sentence = error.strip().splitlines()[-1]
    assert sentence.startswith("lit-dcem: ") and sentence.endswith(".")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB
    return sentence


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_files(capsys, write):
    write()
    assert "bad.ckpt" in check(capsys)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_contents(capsys, content):
    written(content)
    assert "bad.ckpt" in check(capsys)


@pytest.mark.parametrize("name", ["state_dict", "global_step", "hyper_parameters"])
def test_entries_that_are_missing(capsys, name):
    written({key: value for key, value in whole().items() if key != name})
    assert "bad.ckpt" in check(capsys)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ENTRIES.items() for value in values])
def test_entries(capsys, name, value):
    written({**whole(), name: value})
    check(capsys)


@pytest.mark.parametrize("value", WEIGHTS.values(), ids=WEIGHTS)
def test_weights(capsys, value):
    content = whole()
    content["state_dict"][WEIGHT] = value
    written(content)
    assert WEIGHT in check(capsys)


def test_weights_that_are_missing_or_too_many(capsys):
    content = whole()
    content["state_dict"]["more"] = content["state_dict"].pop(WEIGHT)
    written(content)
    assert WEIGHT in check(capsys)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OPTIONS.items() for value in values])
def test_options(capsys, name, value):
    content = whole()
    content["hyper_parameters"][name] = value
    written(content)
    assert "bad.ckpt" in check(capsys)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SIZES.items() for value in values])
def test_sizes(capsys, name, value):
    content = whole()
    content["hyper_parameters"]["energy"]["init_args"][name] = value
    written(content)
    assert "bad.ckpt" in check(capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_class_path", "lit_dcem.RegressionData"),
        ("action_repeat", 0),
        ("num_envs", "x"),
        ("env", None),
        ("env", "nope"),
        ("more", 1),
    ],
)
def test_data(name, value):
    content = torch.load(PHASE1, weights_only=True)
    content["datamodule_hyper_parameters"][name] = value
    written(content)
    with pytest.raises(UsageError, match=r", got .*\.$"):
        Checkpoint.read("bad.ckpt").data(EnvironmentData).make_envs(1, 0)


def test_data_that_is_missing():
    with pytest.raises(UsageError, match="must hold its config, got no datamodule_hyper_parameters"):
        Checkpoint.read(REGRESSION).data(EnvironmentData)


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/a.ckpt", "https://127.0.0.1:9/a.ckpt", "s3://bucket/a.ckpt"])
def test_files_of_another_machine_are_not_fetched(path):
    with pytest.raises(UsageError, match=f"must be a local file: download it first, got {path}"):
        read_checkpoint(path)


@pytest.mark.parametrize("source", [REGRESSION, PHASE1], ids=["regression", "phase 1"])
def test_every_flipped_byte_is_noticed(source):
    """At its ends, where headers are, and anywhere between."""
    before = bytearray(source.read_bytes())
    size, random_ = len(before), random.Random(0)
    for at in [*range(0, 64, 5), *range(size - 1100, size, 31), *random_.sample(range(size), 60)]:
        after = bytearray(before)
        after[at] ^= 1 << random_.randrange(8)
        Path("bad.ckpt").write_bytes(after)
        with pytest.raises(UsageError, match=r"^bad.ckpt is (damaged|not a whole checkpoint)"):
            read_checkpoint("bad.ckpt")


def test_what_is_shipped_and_what_torch_writes_is_whole():
    for path in [*shipped("checkpoints").glob("*.ckpt")]:
        assert read_checkpoint(path)
    written({**whole(), "more": {"empty": torch.zeros(0), "half": torch.ones(3, dtype=torch.bfloat16)}})
    assert read_checkpoint("bad.ckpt")
