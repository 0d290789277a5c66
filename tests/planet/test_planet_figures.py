"""Figures 3 and 11 show what the model's code and the events of runs say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch
from support.figure_runs import LOSSES, logged, write, write_curves

from lit_dcem.cli.figure import draw
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.planet.figures.curves import learning_curves
from lit_dcem.planet.figures.logged import logs_of, name_of, read_run
from lit_dcem.planet.figures.model import Edge, graphical_model, structure
from lit_dcem.planet.model.belief import Gaussian
from lit_dcem.planet.model.rssm import RSSM
from lit_dcem.planet.model.world_model import WorldModel

GENERATION = {
    Edge("u", "h"), Edge("x", "h", 1), Edge("h", "h", 1), Edge("h", "x"),
    Edge("h", "o"), Edge("x", "o"), Edge("h", "r"), Edge("x", "r"),
}  # fmt: skip
INFERENCE = {Edge("h", "x"), Edge("o", "x")}


def test_edges_are_those_of_the_model():
    before = torch.get_rng_state()
    generation, inference = structure()
    assert generation == GENERATION
    assert inference == INFERENCE
    assert torch.equal(before, torch.get_rng_state())


def test_edges_change_with_the_code(monkeypatch):
    predict = RSSM.predict

    def reads_past_h(self, belief, action, first=None):
        deter, (mean, std) = predict(self, belief, action, first)
        return deter, Gaussian(mean + action.sum(-1, keepdim=True), std)

    monkeypatch.setattr(RSSM, "predict", reads_past_h)
    monkeypatch.setattr(WorldModel, "reward", lambda self, belief: belief.deter.sum(-1))
    assert structure().generation == (GENERATION | {Edge("u", "x")}) - {Edge("x", "r")}


def test_model_is_drawn_with_each_edge_that_fits_into_three_slices():
    figure = graphical_model()
    arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == 3 * 10 - 2  # nothing comes before the first slice
    assert {text.get_text() for text in figure.axes[0].texts} >= {"$h_{t-1}$", "$x_{t}$", "$u_{t+1}$"}


def test_returns_over_simulator_steps_are_taken_as_they_are(tmp_path):
    curves = logged()
    counts = {2000: 2000.0, 4000: 4000.0}
    curves |= {"val/simulator_steps": counts, "val/return": {2000: 2.0, 4000: 3.0}, "train/return": {3000: 1.0}}
    run = read_run(write(tmp_path, curves))
    np.testing.assert_allclose(run["val/return"], [[2.0, 4.0], [2.0, 3.0]])
    np.testing.assert_allclose(run["train/return"], [[3.0], [1.0]])
    np.testing.assert_allclose(run["train/kl"][0], [0.001 * (1000 + 40 * step) for step in range(10, 101, 10)])


def test_updates_become_simulator_steps(tmp_path):
    run = read_run(write(tmp_path, logged()))
    np.testing.assert_allclose(
        run["val/return"], [[2.0, 4.0], [2.0, 3.0]]
    )  # between the counts of 20 and 30, 70 and 80
    np.testing.assert_allclose(run["train/kl"][0], np.arange(1.4, 5.1, 0.4))


def test_a_resumed_run_is_put_together(tmp_path):
    first = write(tmp_path, logged(last=100, value=1.0))
    write(tmp_path, {"train/kl": dict.fromkeys((65, 70, 80), 5.0), "val/return": {75: 7.0}}, start=1000.0)
    run = read_run(first)
    steps, values = run["train/kl"]
    np.testing.assert_allclose(steps, [1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 3.6, 3.8, 4.2])  # 70 to 100 of the first are gone
    np.testing.assert_allclose(values, [1] * 6 + [5] * 3)
    np.testing.assert_allclose(run["val/return"][1], [2, 7])


def test_values_that_are_not_finite_are_left_out(tmp_path):
    tags = logged()
    run = read_run(write(tmp_path, {**tags, "train/reward": {10: 1.0, 20: float("nan"), 30: 2.0}}))
    np.testing.assert_allclose(run["train/reward"], [[1.4, 2.2], [1, 2]])


def test_a_run_without_a_whole_episode_is_drawn(tmp_path):
    tags = logged()
    none = read_run(write(tmp_path / "none", {tag: points for tag, points in tags.items() if tag != "train/return"}))
    one = read_run(write(tmp_path / "one", {**tags, "train/return": {10: 1.0}}))
    figure = learning_curves({"none": [none], "one": [one], "both": [none, one]})
    figure.draw_without_rendering()
    returns = [axis.lines for axis in figure.axes[::4]]
    assert [[line.get_label() for line in lines] for lines in returns] == [
        ["evaluation"],
        *[["training", "evaluation"]] * 2,
    ]
    assert [lines[0].get_marker() for lines in returns] == ["."] * 3  # a line of one point would not be seen
    assert {text.get_text() for text in figure.axes[0].get_legend().get_texts()} == {"training", "evaluation"}


def test_seeds_are_averaged_and_names_are_rows(tmp_path):
    folders = [tmp_path / name for name in ("a/version_0", "a/version_1", "b/version_0")]
    a, other, b = (
        read_run(write(folder, logged(last, i + 1.0)))
        for i, (folder, last) in enumerate(zip(folders, (100, 60, 100), strict=True))
    )
    figure = learning_curves({"a": [a, other], "b": [b]})
    figure.draw_without_rendering()
    assert len(figure.axes) == 8
    assert [axis.get_ylabel() for axis in figure.axes[::4]] == ["a\n2 seeds", "b"]
    training, evaluation = figure.axes[0].lines
    np.testing.assert_allclose(np.asarray(training.get_xdata()), np.arange(1.4, 5.1, 0.4))
    np.testing.assert_allclose(
        np.asarray(training.get_ydata()), [1.5] * 6 + [1] * 4
    )  # the second seed ends at update 60
    np.testing.assert_allclose(np.asarray(evaluation.get_ydata()), [3, 3])
    assert [len(axis.collections) for axis in figure.axes] == [2, 1, 1, 1, 0, 0, 0, 0]


def test_long_training_curves_are_smoothed_and_thinned(tmp_path):
    run = read_run(write(tmp_path, logged()))
    steps = np.linspace(0, 100, 5001)
    noisy = steps + np.where(np.arange(5001) % 2, 1, -1)
    axis = learning_curves({"a": [{**run, "train/kl": (steps, noisy)}]}).axes[3]
    (line,) = axis.lines
    error = np.asarray(line.get_ydata()) - np.asarray(line.get_xdata())
    assert len(error) == 500
    assert np.abs(error[5:-5]).max() < 0.05


def test_runs_have_the_name_of_their_config(tmp_path):
    folder = write(tmp_path / "cheetah_phase1/version_12", logged())
    (events,) = folder.iterdir()
    shipped = tmp_path / "walker_phase1_fast_3.tfevents"
    shipped.write_bytes(events.read_bytes())
    assert [name_of(path) for path in (folder, events, tmp_path)] == ["cheetah_phase1"] * 2 + [tmp_path.name]
    assert name_of(shipped) == "walker_phase1_fast"
    assert name_of(tmp_path / "task=walker-walk,phase=2,seed=0/version_0") == "walker-walk, phase 2"
    assert name_of(tmp_path / "task=walker-walk,phase=2-dcem,seed=0/version_0") == "walker-walk, phase 2-dcem"
    assert name_of(tmp_path / "task=walker-walk,phase=fine,seed=0/version_0") == "walker-walk, phase fine"
    assert name_of(tmp_path / "task=walker-walk,phase=2,seed=0,lr=0.1/version_0") == "walker-walk, phase 2,lr=0.1"
    assert name_of(tmp_path / "lr=0.1,seed_everything=1/version_0") == "lr=0.1"
    assert name_of(tmp_path / "seed_everything=1,lr=0.1/version_0") == "lr=0.1"
    assert name_of(tmp_path / "my_sweep/seed_everything=1/version_0") == "my_sweep"
    assert read_run(logs_of(shipped)).keys() == {"train/return", "val/return", *LOSSES}


def test_curves_and_events_of_a_run_are_the_same(tmp_path):
    folder = write_curves(tmp_path / "cheetah_phase1/version_12", logged(value=0.1))
    table = logs_of(folder)
    assert table == folder / "curves.csv" and name_of(table) == "cheetah_phase1"
    curves, events = read_run(table), read_run(write(tmp_path / "events", logged(value=0.1)))
    for tag, curve in events.items():
        np.testing.assert_allclose(curve, curves[tag], rtol=1e-6)
    last = folder / "checkpoints/last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert logs_of(folder.parent) == table  # as other commands take it, the newest run
    renamed = table.rename(tmp_path / "walker_3.csv")
    assert name_of(logs_of(renamed)) == "walker"


@pytest.mark.parametrize("number", ["3", "11"])
def test_figures_are_written_from_the_command_line(tmp_path, capsys, number):
    runs = [write(tmp_path / f"cheetah/version_{seed}", logged(value=seed + 1.0)) for seed in (0, 1)]
    out = tmp_path / "new" / f"{number}.png"
    main(["figure", number, "--out", str(out), *(["--run", *map(str, runs)] if number == "11" else [])])
    assert out.stat().st_size > 10_000
    assert str(out) in capsys.readouterr().out


def test_shipped_curves_are_the_default(tmp_path, monkeypatch):
    table = logs_of(write_curves(tmp_path / "run", logged()))
    monkeypatch.setattr("lit_dcem.training.figure_source.shipped", lambda folder: tmp_path / folder)
    with pytest.raises(UsageError, match="Figure 11 needs --run or shipped files"):
        draw("11", None, str(tmp_path / "x.png"))
    (tmp_path / "checkpoints").mkdir()
    table.rename(tmp_path / "checkpoints/cheetah_phase1_fast_0.csv")
    assert draw("11", None, str(tmp_path / "x.png")).is_file()


def test_bad_input_is_said_in_one_sentence(tmp_path):
    short = write(tmp_path / "short", {tag: points for tag, points in logged().items() if tag != "val/return"})
    foreign = tmp_path / "foreign.tfevents"
    foreign.write_bytes(b"no events, but a file of some length " * 10)
    other, broken = tmp_path / "other.csv", tmp_path / "broken.csv"
    other.write_text("a,b\n1,2\n")
    broken.write_text("step,metric,value,seed\n1,val/return,high,0\n")
    for number, run, pattern in [
        ("3", tmp_path, "takes no --run"),
        ("11", tmp_path, "events.out.tfevents.* files, or a .* file, got"),
        ("11", tmp_path / "none", "or a .* file, got .*none"),
        ("11", Path(__file__), "or a .* file, got .*test_planet_figures.py"),
        ("11", other, "must have the columns step, metric, value, seed, got none called .*step"),
        ("11", broken, "value must be a number in every row of .*broken.csv, got high"),
        ("11", short, "runs that logged val/return, got none in .*short"),
        ("11", foreign, "runs that logged train/simulator_steps, got none in .*foreign"),
    ]:
        with pytest.raises(UsageError, match=pattern) as caught:
            draw(number, [str(run)], str(tmp_path / "x.png"))
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
