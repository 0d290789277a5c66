"""`lit-dcem reproduce` knows how each figure was made, and makes it again at debug size."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_dcem.cli.main import main
from lit_dcem.cli.reproduction import running
from lit_dcem.cli.reproduction.document import document
from lit_dcem.cli.reproduction.recipes import RECIPES
from lit_dcem.cli.reproduction.running import write_sweep
from lit_dcem.cli.sweep.grid import plan, read_sweep
from lit_dcem.cli.sweep.process import read_json
from lit_dcem.cli.sweep.run import Run

DOCUMENT = Path(__file__).parents[2] / "docs/reproduction.md"


def test_the_document_is_that_of_the_recipes():
    again = "write it by python -m lit_dcem.cli.reproduction.document > docs/reproduction.md"
    assert DOCUMENT.read_text() == document(), again


def test_every_figure_of_the_paper_has_a_recipe():
    assert list(RECIPES) == [str(number) for number in range(1, 16)]
    assert all(bool(recipe.studies) == bool(recipe.draws) for recipe in RECIPES.values())


@pytest.mark.parametrize(("quick", "runs", "seeds"), [(False, 27, {0, 1, 2}), (True, 9, {0})])
def test_a_study_is_a_sweep(tmp_path, quick, runs, seeds):
    (study,) = RECIPES["8"].studies
    processes = plan(read_sweep(write_sweep(study, tmp_path, "8", quick)), tmp_path)
    assert len(processes) == runs
    assert {process.columns["seed_everything"] for process in processes} == seeds
    assert all(quick == any("debug" in each for each in run.options) for run in processes if isinstance(run, Run))


def test_figures_share_their_runs(tmp_path):
    ours = {}
    for number in ("12", "13", "4"):
        study = RECIPES[number].studies[-1]
        processes = plan(read_sweep(write_sweep(study, tmp_path, number)), tmp_path)
        ours[number] = {run.name: run.settings for run in processes if isinstance(run, Run)}
    assert ours["13"] == ours["4"] and len(ours["4"]) == 3 * 3
    shared = ours["12"].keys() & ours["13"].keys()  # two phases of three seeds
    assert len(shared) == 2 * 3 and all(ours["12"][name] == ours["13"][name] for name in shared)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Nothing is trained; what figures are drawn from is noted, and what is swept, under the key ``swept``."""
    monkeypatch.chdir(tmp_path)
    found = {"swept": []}

    def train(file, out, jobs):
        found["swept"].append(file.name)
        for process in plan(read_sweep(file), out):
            if isinstance(process, Run):
                process.last.parent.mkdir(parents=True, exist_ok=True)
                process.last.touch()
            process.record("done")

    def draw(number, runs, out):
        found[number] = [path.removeprefix(f"{tmp_path}/runs/reproduce/") for path in runs]
        return Path(out)

    monkeypatch.setattr(running, "sweep", train)
    monkeypatch.setattr(running, "draw", draw)
    return found


def test_figures_are_drawn_from_their_runs(drawn, capsys):
    main(["reproduce", "all"])
    assert list(drawn) == ["swept", *RECIPES]
    assert drawn["3"] == drawn["7"] == []
    assert drawn["8"] == drawn["9"] == ["sweep_cartpole"]
    assert drawn["1"][0] == "regression/seed_everything=0/version_0/checkpoints/last.ckpt" and len(drawn["1"]) == 2
    assert len(drawn["5"]) == 6 and len(drawn["4"]) == 3 + 4 + 3 * 3
    assert drawn["10"][0] == "cartpole_pca.pt" and len(drawn["10"]) == 4
    assert drawn["13"] == [f"cartpole-swingup/task=cartpole-swingup,phase=3,seed={i}/version_0" for i in range(3)]
    assert all("phase=2" in path for number in ("12", "14", "15") for path in drawn[number])
    assert capsys.readouterr().out.splitlines()[-1] == "runs/reproduce/figure15.png"


def test_a_figure_of_some_runs_leaves_the_table_of_all_of_them(drawn):
    main(["reproduce", "8"])
    main(["reproduce", "10"])
    assert drawn["swept"] == ["figure8.yaml"] and len(drawn["10"]) == 4


def test_the_table_is_whole_in_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    main(["reproduce"])
    words = "".join(capsys.readouterr().out.split())
    assert "…" not in words and all(recipe.commit.split()[-1] in words for recipe in RECIPES.values() if recipe.studies)


def test_quick_says_what_it_takes(drawn, capsys):
    main(["reproduce", "1", "--quick"])
    assert RECIPES["1"].quick in capsys.readouterr().out and all(recipe.quick for recipe in RECIPES.values())


def test_without_a_figure_the_table_is_printed(capsys):
    main(["reproduce"])
    assert "a47b5ae" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["16"], "A figure to reproduce must be one of 1, 2, "),
        (["1", "--out", "file"], "--out must be a folder, got the file file."),
        (["1", "--jobs", "0"], "--jobs must be at least 1, got 0."),
    ],
)
def test_mistakes_are_one_sentence(typed, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *typed])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and line.endswith(".")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where figures share their runs."""
    return tmp_path_factory.mktemp("figures")


@pytest.mark.slow
@pytest.mark.parametrize("number", RECIPES)
def test_a_figure_is_made_again_at_debug_size(number, folder, monkeypatch):
    monkeypatch.chdir(folder)
    main(["reproduce", number, "--quick"])
    assert (folder / f"runs/reproduce_quick/figure{number}.png").stat().st_size > 10_000
    before = checkpoints(folder)
    main(["reproduce", number, "--quick"])
    assert checkpoints(folder) == before


@pytest.mark.slow
def test_what_was_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["reproduce", "1", "--quick", "--out", "here"]
    process = subprocess.Popen([sys.executable, "-m", "lit_dcem", *typed], stderr=subprocess.PIPE, text=True)
    second = tmp_path / "here/regression_gd/seed_everything=0/result.json"
    while process.poll() is None and read_json(second).get("status") != "running":
        time.sleep(0.1)
    process.terminate()
    _, error = process.communicate()
    assert process.returncode == 143 and "Stopped; the same command resumes" in error
    before = checkpoints(tmp_path / "here/regression")
    assert len(before) == 1 and not list(tmp_path.rglob("*.png"))
    main(typed)
    assert checkpoints(tmp_path / "here/regression") == before
    assert len(checkpoints(tmp_path)) == 2 and (tmp_path / "here/figure1.png").is_file()


def checkpoints(folder):
    """When those below a folder were written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("last.ckpt")}
