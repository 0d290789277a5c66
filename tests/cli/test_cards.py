"""Cards say of each checkpoint what it records, and what is noted beside it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from lit_dcem.cli.cards import cards
from lit_dcem.cli.main import main
from lit_dcem.files.shipped import shipped
from lit_dcem.training.checkpoint import Checkpoint

SHIPPED = shipped("checkpoints")


def test_the_shipped_cards_are_those_of_the_files():
    again = "write them by lit-dcem cards checkpoints > checkpoints/README.md"
    assert (SHIPPED / "README.md").read_text() == cards(SHIPPED), again


def test_every_shipped_checkpoint_is_noted_and_says_what_made_it():
    sections = yaml.safe_load((SHIPPED / "cards.yaml").read_text())["sections"]
    assert {name for each in sections for name in each["cards"]} == {path.name for path in SHIPPED.glob("*.ckpt")}
    assert "not recorded" not in (SHIPPED / "README.md").read_text()


@pytest.fixture
def folder(tmp_path):
    """A folder with one checkpoint, of a run that recorded its origin."""
    content = torch.load(SHIPPED / "swingup_phase1_1.ckpt", weights_only=True)
    origin = {"seed": 7, "commits": ["abc", "def-dirty"], "hardware": ["1 thread of a machine, no GPU"]}
    content["callbacks"]["Origin"] = origin
    torch.save(content, tmp_path / "mine.ckpt")
    return tmp_path


def test_a_checkpoint_that_records_its_origin_needs_no_notes(folder, capsys):
    main(["export", str(folder / "mine.ckpt"), str(folder / "small.ckpt")])
    assert Checkpoint.read(folder / "small.ckpt").origin["seed"] == 7
    capsys.readouterr()
    main(["cards", str(folder)])
    said = capsys.readouterr().out
    assert said.count("- seed: 7\n- commit: abc, def-dirty\n- hardware: 1 thread of a machine, no GPU\n") == 2
    assert "- trained: PlanetPhase1 of cartpole-swingup, 4,000 updates, 43,992 simulator steps\n" in said


def test_what_is_not_recorded_is_said(tmp_path):
    shutil.copy(SHIPPED / "regression_gd_0.ckpt", tmp_path)
    assert "- seed: not recorded\n- commit: not recorded\n" in cards(tmp_path)


def test_returns_are_those_of_the_evaluation(folder):
    report = {"mean": 1.4, "mean_interval": [1.0, 2.0], "median": 1.2, "returns": [1.0, 2.0]}
    content = {"options": {"checkpoint": "elsewhere/mine.ckpt"}, "results": {"PlanetPhase1": report}}
    (folder / "a_returns.json").write_text(json.dumps(content))
    assert "- result: return 1 (95% interval 1 to 2), median 1, of 2 episodes (`a_returns.json`)\n" in cards(folder)
    content["results"]["PlanetPhase1"] |= {"mean_interval": None, "returns": [1.4]}
    (folder / "a_returns.json").write_text(json.dumps(content))
    assert "- result: return 1, median 1, of 1 episodes (`a_returns.json`)\n" in cards(folder)
    content["changed"] = {"num_candidates": [20, 3]}  # by options of the evaluation
    (folder / "a_returns.json").write_text(json.dumps(content))
    assert "- result" not in cards(folder)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cards.yaml", "[1", "cards.yaml must be a YAML file, got "),
        ("cards.yaml", "[1]", "cards.yaml must have an introduction and sections"),
        ("cards.yaml", "sections: [{cards: {}}]", "each with title, text, common and cards"),
        ("cards.yaml", "sections: [{title: a, cards: {b.ckpt: {}}}]", "about files that are there, got b.ckpt."),
        ("cards.yaml", "sections: [{title: a, cards: {mine.ckpt: {owner: me}}}]", "A note must be one of "),
        ("a_returns.json", "{}", "must be files of lit-dcem evaluate --out, got "),
        ("b.ckpt", "text", "b.ckpt"),
    ],
)
def test_mistakes_are_one_sentence(folder, capsys, name, text, says):
    (folder / name).write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["cards", str(folder)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and line.endswith(".")


def test_a_folder_without_checkpoints_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["cards", str(tmp_path / "none")])
    assert "Cards are made for a folder with *.ckpt files, got " in capsys.readouterr().err
    assert not Path(tmp_path / "none").exists()
