"""Checkpoints can be read back without their config, stripped, and drawn."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch

from lit_dcem import EnergyRegression, RegressionData
from lit_dcem.cli.figure import draw
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.files import archive
from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.files.replacing import PAGE
from lit_dcem.files.shipped import shipped
from lit_dcem.regression import figures as regression
from lit_dcem.training.checkpoint import Checkpoint, find_checkpoint

ROOT = Path(__file__).parents[2]
CHECKPOINTS = sorted(shipped("checkpoints").glob("*.ckpt"))
METHODS = "regression", "regression_gd"
SMALL = ["--model.init_args.energy.init_args.hidden_dim=8", "--trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def runs(made_once):
    """One short run of each method; their folders."""
    folder = made_once("regressions", _train)
    return [folder / "runs" / name / "version_0" for name in METHODS]


def _train():
    for name in METHODS:
        configs = ["--config", str(ROOT / f"configs/{name}.yaml"), "--config", str(ROOT / "configs/debug.yaml")]
        main(["fit", *configs, *SMALL])


def test_module_comes_back_with_its_config_and_weights(runs):
    path = runs[0] / "checkpoints/last.ckpt"
    module = Checkpoint.read(path).module()
    assert isinstance(module, EnergyRegression)
    assert module.solver.options["num_candidates"] == 10
    assert module.energy.layers[0].out_features == 8
    for name, value in read_checkpoint(path)["state_dict"].items():
        assert torch.equal(module.state_dict()[name], value)


def test_lightning_loads_it_too(runs):
    path = runs[0] / "checkpoints/last.ckpt"
    module = EnergyRegression.load_from_checkpoint(path, weights_only=True)
    assert module.energy.layers[0].out_features == 8


def test_export_keeps_weights_config_and_curve(runs, tmp_path):
    main(["export", str(runs[0]), str(tmp_path / "small.ckpt")])
    small, whole = read_checkpoint(tmp_path / "small.ckpt"), read_checkpoint(runs[0] / "checkpoints/last.ckpt")
    assert "optimizer_states" not in small
    history = [Checkpoint.read(path).history for path in (tmp_path / "small.ckpt", runs[0])]
    assert history[0] == history[1] != []
    assert Checkpoint.read(tmp_path / "small.ckpt").module().state_dict().keys() == whole["state_dict"].keys()


def test_an_export_takes_the_place_of_an_older_one(runs, tmp_path):
    for run in runs:
        main(["export", str(run), str(tmp_path / "small.ckpt")])
    assert read_checkpoint(tmp_path / "small.ckpt")["hyper_parameters"]["solver"]["class_path"].endswith("UnrolledGD")
    assert [path.name for path in tmp_path.iterdir()] == ["small.ckpt"]


@pytest.mark.parametrize("kind", ["the same", "relative", "symbolic link", "hard link", "another run's", "exported"])
def test_an_export_never_takes_the_place_of_what_training_needs(runs, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(runs[0])
    source, target = runs[0] / "checkpoints/last.ckpt", tmp_path / "link.ckpt"
    if kind == "exported":  # onto itself: nothing would be lost but the time
        Checkpoint.read(source).export(tmp_path / "small.ckpt")
        source = target = tmp_path / "small.ckpt"
    elif kind == "symbolic link":
        target.symlink_to(source)
    elif kind == "hard link":
        target.hardlink_to(source)
    else:
        others = {"relative": Path("checkpoints/last.ckpt"), "another run's": runs[1] / "checkpoints/best.ckpt"}
        target = others.get(kind, source)
    before = target.read_bytes()
    with pytest.raises(UsageError, match=r"^An export must .*, got .*\.$"):
        Checkpoint.read(source).export(target)
    assert target.read_bytes() == before


def test_what_cannot_be_written_is_told_before_anything_is_drawn(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(regression, "learning_curves", None)  # would raise
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for name, says in (("file/5.png", "Not a directory"), ("folder.png", "must be a file"), ("5.webm", "image file")):
        with pytest.raises(UsageError, match=says):
            draw("5", [str(runs[0])], str(tmp_path / name))
    with pytest.raises(UsageError, match="Not a directory"):
        Checkpoint.read(runs[0]).export(tmp_path / "file/small.ckpt")


def test_a_disk_that_fills_up_leaves_the_old_figure_and_export(runs, tmp_path, monkeypatch):
    source, export, figure = runs[0] / "checkpoints/last.ckpt", tmp_path / "small.ckpt", tmp_path / "5.png"
    Checkpoint.read(source).export(export)
    draw("5", [str(runs[0])], str(figure))
    before = export.read_bytes(), figure.read_bytes()

    def full(handle):
        if not stat.S_ISDIR(os.fstat(handle).st_mode) and os.fstat(handle).st_size != PAGE:  # the trial fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for attempt in (lambda: Checkpoint.read(source).export(export), lambda: draw("5", [str(runs[0])], str(figure))):
        with pytest.raises(UsageError, match=r"must be writable, got No space left on device; it is as it was\.$"):
            attempt()
    assert (export.read_bytes(), figure.read_bytes()) == before and len(list(tmp_path.iterdir())) == 2


def test_one_rule_finds_files_run_folders_and_shipped_names(runs, monkeypatch):
    last = runs[0] / "checkpoints/last.ckpt"
    assert find_checkpoint(runs[0]) == find_checkpoint(str(last)) == last
    assert find_checkpoint(runs[0].parent) == last, "the newest of a folder of runs"
    shipped_one = shipped("checkpoints") / "cartpole_best_0.ckpt"
    for name in ("cartpole_best_0", "cartpole_best_0.ckpt", "checkpoints/cartpole_best_0"):
        monkeypatch.chdir(runs[0])
        assert find_checkpoint(name) == shipped_one
    for name in ("nowhere", "..", str(runs[0].parents[1]), "checkpoints"):
        monkeypatch.chdir(runs[0].parent)
        with pytest.raises(UsageError, match=r"^A checkpoint must be a file, a run folder .*, got .*\.$"):
            find_checkpoint(name)


def test_it_knows_its_configs_step_and_parts(runs, tmp_path):
    whole = Checkpoint.read(runs[0])
    assert whole.config.model["_class_path"] == "lit_dcem.EnergyRegression" and whole.module_class is EnergyRegression
    assert isinstance(whole.data(RegressionData), RegressionData)
    assert whole.step == 10 and whole.can_resume
    part = whole.weights("energy")
    assert part.keys() == whole.module().energy.state_dict().keys()
    assert all(value is whole.weights()[f"energy.{name}"] for name, value in part.items())
    whole.export(tmp_path / "small.ckpt")
    small = Checkpoint.read(tmp_path / "small.ckpt")
    assert not small.can_resume and small.step == 10 and small.config == whole.config


@pytest.fixture
def reads(monkeypatch):
    """Every reading of a checkpoint's bytes, by whomever."""
    paths = []
    check, load = archive.check_archive, torch.load
    monkeypatch.setattr("lit_dcem.files.checkpoint.check_archive", lambda path: paths.append(path) or check(path))
    monkeypatch.setattr(torch, "load", lambda *args, **more: paths.append("loaded") or load(*args, **more))
    return paths


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("command", ["evaluate", "figure", "export", "validate", "fit"])
def test_a_command_reads_a_checkpoint_once(runs, tmp_path, monkeypatch, reads, command):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs[0], "run/version_0")
    run, config = "run/version_0", ["--config", "regression", "--config", "debug", *SMALL]
    main(
        {
            "evaluate": ["evaluate", "--checkpoint", run],
            "figure": ["figure", "5", "--run", run],
            "export": ["export", run, "small.ckpt"],
            "validate": ["validate", *config, "--ckpt_path", run],
            "fit": ["fit", *config, "--ckpt_path", run, "--trainer.max_epochs=3"],
        }[command]
    )
    assert reads == [Path(run, "checkpoints/last.ckpt"), "loaded"]


@pytest.mark.parametrize("number", ["1", "5", "6"])
def test_figures_draw_from_runs(runs, tmp_path, capsys, number):
    out = tmp_path / "new" / f"{number}.png"
    main(["figure", number, "--run", *map(str, runs), "--out", str(out)])
    assert capsys.readouterr().out.strip() == str(out)
    assert out.stat().st_size > 10_000


def test_figures_draw_from_shipped_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["figure", "5"])
    assert Path("figure5.png").stat().st_size > 10_000


def test_shipped_checkpoints_state_their_origin():
    text = (shipped("checkpoints") / "README.md").read_text()
    assert CHECKPOINTS and not [path.name for path in CHECKPOINTS if path.name not in text]


@pytest.mark.slow
@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_shipped_checkpoints_load(path):
    assert Checkpoint.read(path).module()
