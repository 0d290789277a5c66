"""The pages on your own parts: the files that a reader copies from them, and the commands as typed, at debug size."""

import json
import re
import sys
from pathlib import Path

import pytest
from support.command_runs import QUIET
from support.documents import ROOT, Page
from support.typed import pairs

from lit_dcem.cli.main import main

FILE = re.compile(r"# (my_\w+)\.py\n")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Pictures need a logger"),
    pytest.mark.filterwarnings("ignore:There will be no videos"),
]
CARTPOLE = ["--config=debug", *QUIET, "--model.init_args.validation_repeats=1", "--trainer.limit_val_batches=1"]
PLANET = ["--config=debug", *QUIET, "--data.time_limit=80", "--data.evaluation_episodes=1"]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """``page(name)``: the page, whose files are in the current folder, which is all that Python knows of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the current folder
    monkeypatch.setenv("MUJOCO_GL", "disabled")  # pictures would take longer than the rest

    def copied(name):
        found = Page(ROOT / "docs/your_own" / f"{name}.md")
        for code in found.python:
            if named := FILE.match(code):
                Path(f"{named[1]}.py").write_text(code)
        return found

    yield copied
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def command(page, *named):
    """The only command of a page that has these words."""
    (words,) = [words for words in page.commands if all(name in " ".join(words) for name in named)]
    return words[1:]


def test_a_logger_of_ones_own_gets_a_line_for_each_validation_and_the_run_is_where_it_always_is(page):
    main([*command(page("logger"), "my_logger"), *QUIET, *CARTPOLE[-2:], "--trainer.log_every_n_steps=5"])
    lines = Path("cartpole.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines if "val/cost'" in line] == ["4", "9"]  # updates are counted from 0
    assert Path("runs/cartpole/version_0/checkpoints/last.ckpt").is_file() and not Path("lines").exists()


def test_a_csv_logger_writes_into_the_folder_of_the_run(page):
    main([*command(page("logger"), "CSVLogger"), *CARTPOLE])
    assert "val/cost" in Path("runs/cartpole/version_0/metrics.csv").read_text().partition("\n")[0]
    assert Path("runs/cartpole/version_0/checkpoints/best.ckpt").is_file()


def test_without_a_logger_there_are_checkpoints_alone(page):
    main([*command(page("logger"), "logger false"), *CARTPOLE])
    run = Path("runs/cartpole/version_0")
    assert {path.name for path in run.rglob("*") if path.is_file()} == {
        ".lock",
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
    }


@pytest.mark.slow
def test_a_planner_of_ones_own_plans_while_a_world_model_learns(page):
    words = command(page("planner"), "fit", "RandomShooting")
    main([*words, *PLANET, "--model.planner.num_candidates=20"])
    last = "runs/phase1/version_0/checkpoints/last.ckpt"
    assert "my_planner.RandomShooting" in Path("runs/phase1/version_0/config.yaml").read_text()
    main(["evaluate", "--checkpoint", last, "--episodes=1", "--out=a.json"])  # trained here, so it is trusted here
    (report,) = json.loads(Path("a.json").read_text())["results"].values()
    assert report["trajectories_a_decision"] == 21  # and the answer


def test_a_planner_of_ones_own_plans_in_a_shipped_model(page):
    words = command(page("planner"), "evaluate", "RandomShooting")
    checkpoint, episodes = dict(pairs(words[1:]))["--checkpoint"], "--episodes=1"
    assert checkpoint == "swingup_phase1_1"
    small = ["--planner.num_candidates=4", "--planner.horizon=2", "--out=a.json"]
    main([*words, episodes, *small])
    (report,) = json.loads(Path("a.json").read_text())["results"].values()
    assert report["trajectories_a_decision"] == 5 and len(report["returns"]) == 1


def test_a_planner_of_ones_own_controls_the_cartpole(page):
    """The page says what doing nothing costs."""
    found = page("planner")
    main([*command(found, "Coast"), "--seeds=1", "--out=a.json"])
    (report,) = json.loads(Path("a.json").read_text())["results"].values()
    (cost,) = re.findall(r"costs \+([\d.]+) on average", found.text)
    assert f"{report['cost']:.2f}" == cost
