"""`lit-dcem reproduce` knows how each figure was made, and makes it again at debug size."""

from pathlib import Path

import pytest

from lit_dcem.cli.main import main
from lit_dcem.cli.reproduction import running
from lit_dcem.cli.reproduction.document import document
from lit_dcem.cli.reproduction.recipes import RECIPES
from lit_dcem.cli.reproduction.running import write_sweep
from lit_dcem.cli.sweep.grid import plan, read_sweep
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
    processes = plan(read_sweep(write_sweep(study, tmp_path, quick)), tmp_path)
    assert len(processes) == runs
    assert {process.columns["seed_everything"] for process in processes} == seeds
    assert all(quick == any("debug" in each for each in run.options) for run in processes if isinstance(run, Run))


def test_figures_share_their_runs(tmp_path):
    ours = {}
    for number in ("12", "13", "4"):
        study = RECIPES[number].studies[-1]
        processes = plan(read_sweep(write_sweep(study, tmp_path)), tmp_path)
        ours[number] = {run.name: run.settings for run in processes if isinstance(run, Run)}
    assert ours["12"].items() <= ours["13"].items() == ours["4"].items() and len(ours["4"]) == 3


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Nothing is trained, and what figures are drawn from is noted."""
    monkeypatch.chdir(tmp_path)
    found = {}

    def train(file, out, jobs):
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
    assert list(drawn) == list(RECIPES)
    assert drawn["3"] == drawn["7"] == []
    assert drawn["8"] == drawn["9"] == ["sweep_cartpole"]
    assert drawn["1"][0] == "regression/seed_everything=0/version_0/checkpoints/last.ckpt" and len(drawn["1"]) == 2
    assert len(drawn["5"]) == 6 and len(drawn["4"]) == 9
    assert drawn["10"][0] == "cartpole_pca.pt" and len(drawn["10"]) == 4
    assert drawn["13"] == ["cartpole-swingup/task=cartpole-swingup,phase=3,seed=0/version_0"]
    assert all("phase=2" in path for number in ("12", "14", "15") for path in drawn[number])
    assert capsys.readouterr().out.splitlines()[-1] == "runs/reproduce/figure15.png"


def test_without_a_figure_the_table_is_printed(capsys):
    main(["reproduce"])
    assert "a47b5ae" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["16"], "A figure to reproduce must be one of 1, 2, "),
        (["1", "--out", "file"], "--out must be a folder, got the file file."),
        (["1", "--jobs", "0"], "with at least 1 job, got joblib and 0."),
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


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1", "8", "13"])
def test_a_figure_is_made_again_at_debug_size(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["reproduce", number, "--quick"])
    figure = tmp_path / f"runs/reproduce_quick/figure{number}.png"
    assert figure.stat().st_size > 10_000
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.ckpt")}
    main(["reproduce", number, "--quick"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.ckpt")} == before
