"""Whatever is wrong with what was typed, it is said in one sentence, with exit code 2, and leaves no run folder."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support import bad_commands, bad_configs
from support.bad_configs import write_pairs
from support.bad_input import KINDS, attempt, fit, spread
from support.bad_input_files import write_material

from lit_dcem.cli.main import main

assert bad_configs, bad_commands  # they add their kinds when they are imported


def make_material():
    """Bad files, and a whole checkpoint of a run, in the current folder."""
    last = {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}}
    options = "--trainer.logger.init_args.save_dir=trained", f"--trainer.callbacks={json.dumps([last])}"
    main(fit("regression", *options).arguments)
    folder = Path.cwd()
    write_material(folder, folder / "trained/regression/version_0/checkpoints/last.ckpt")
    shutil.rmtree("trained")
    write_pairs(folder)


@pytest.fixture
def material(tmp_path, made_once):
    """A folder with them."""
    return shutil.copytree(made_once("bad_input", make_material), tmp_path, dirs_exist_ok=True)


def check(name, cases, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    complaints = [f"{case.name}\n    {wrong}" for case in cases if (wrong := attempt(case).complaint)]
    assert not complaints, f"{len(complaints)} of {len(cases)} of {name}:\n" + "\n".join(complaints)


@pytest.mark.parametrize("name", KINDS)
def test_bad_input_is_one_sentence(name, material, monkeypatch):
    cases, fast = KINDS[name]
    check(name, spread(list(cases()), fast), material, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_all_bad_input_is_one_sentence(name, material, monkeypatch):
    check(name, list(KINDS[name][0]()), material, monkeypatch)


def test_there_are_enough():
    assert sum(len(spread(list(cases()), fast)) for cases, fast in KINDS.values()) >= 320


def test_a_run_that_outgrows_memory_keeps_its_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(fit("regression").arguments)
    checkpoint = Path("runs/regression/version_0/checkpoints/last.ckpt")
    whole = checkpoint.read_bytes()
    more = (
        "--trainer.max_epochs=2",
        "--ckpt_path=last",
        "--model.init_args.solver.init_args.num_candidates=1000000000000000",
    )
    with pytest.raises(SystemExit) as stop:
        main(fit("regression", *more).arguments)
    assert stop.value.code == 2
    said = "lit-dcem: The sizes of the model, its batches and its searches must fit into memory, got a tensor of "
    assert re.search(said + r"[\d,.]+ GiB\.\n", capsys.readouterr().err)
    assert checkpoint.read_bytes() == whole
