"""Figure trajectories shows what searches of several sizes got."""

import json
import statistics

import pytest

from lit_dcem.errors import UsageError
from lit_dcem.planet.figures.trajectories import Measured, read_searches, returns_by_trajectories
from lit_dcem.training.statistics import mean_and_interval

TASK, FULL, LATENT = "cheetah-run", "CEM over actions", "DCEM in a latent space"


def measured(search, trajectories, returns, checkpoint="0", task=TASK):
    return Measured(task, search, trajectories, checkpoint, returns)


def bars(axis) -> dict[str, tuple[list[float], list[float], list[tuple[float, ...]]]]:
    """For each search: its label, counts, means, and the ends of its intervals."""
    found = {}
    for bar in axis.containers:
        line, _, (reaches,) = bar.lines
        ends = [tuple(segment[:, 1]) for segment in reaches.get_segments()]
        found[bar.get_label()] = (line.get_xdata().tolist(), line.get_ydata().tolist(), ends)
    return found


def test_a_mark_is_the_mean_over_seeds_and_its_interval_is_theirs():
    seeds = [[1.0, 3.0], [5.0, 7.0], [8.0, 10.0]]
    figure = returns_by_trajectories(
        [measured(LATENT, 100, returns, str(seed)) for seed, returns in enumerate(seeds)]
        + [measured(LATENT, 20, [0.0, 1.0], "0")]
    )
    figure.draw_without_rendering()
    ((at, means, ends),) = bars(figure.axes[0]).values()
    mean, reach = mean_and_interval([2.0, 6.0, 9.0])
    assert at == [20, 100] and means == pytest.approx([0.5, mean])
    assert ends[1] == pytest.approx((mean - reach, mean + reach))
    assert list(bars(figure.axes[0])) == [f"{LATENT} (1 to 3 seeds)"]


def test_episodes_of_one_seed_are_pooled_and_give_its_interval():
    figure = returns_by_trajectories([measured(FULL, 50, [1.0, 2.0, 3.0]), measured(FULL, 50, [4.0, 6.0])])
    ((_, means, ((low, high),)),) = bars(figure.axes[0]).values()
    assert means == pytest.approx([statistics.fmean([1, 2, 3, 4, 6])])
    assert 1 < low < means[0] < high < 6
    assert list(bars(figure.axes[0])) == [f"{FULL} (1 seed)"]


def test_a_panel_for_each_task_and_a_line_for_each_search():
    figure = returns_by_trajectories(
        [measured(FULL, 50, [1.0]), measured(LATENT, 50, [2.0]), measured(FULL, 100, [3.0], task="walker-walk")]
    )
    assert [axis.get_title() for axis in figure.axes] == [TASK, "walker-walk"]
    assert [len(bars(axis)) for axis in figure.axes] == [2, 1]
    colours = [axis.lines[0].get_color() for axis in figure.axes]
    assert colours[0] == colours[1]  # of one search in every panel


def report(tmp_path, read=None, **changes):
    result = {"environment": TASK, "returns": [1.0, 2.0], "search": LATENT, "trajectories_a_decision": 80, **changes}
    path = tmp_path / "a.json"
    content = {
        "options": {"checkpoint": "a.ckpt"},
        "results": {"PlanetPhase3": result},
        **({} if read is None else read),
    }
    path.write_text(json.dumps(content))
    return path


def test_a_seed_is_the_checkpoint_that_was_read_whatever_was_typed(tmp_path):
    (found,) = read_searches(report(tmp_path, {"checkpoint_file": "/runs/version_3/checkpoints/best.ckpt"}))
    assert found.checkpoint == "/runs/version_3/checkpoints/best.ckpt"


def test_a_report_says_what_was_searched_and_whether_ppo_came_before(tmp_path):
    assert read_searches(report(tmp_path)) == [Measured(TASK, f"{LATENT}, after PPO", 80, "a.ckpt", [1.0, 2.0])]
    (over_actions,) = read_searches(report(tmp_path, search=FULL))
    assert over_actions.search == f"{FULL}, model of phase 3"


@pytest.mark.parametrize("changes", [{"trajectories_a_decision": "80"}, {"trajectories_a_decision": 0}])
def test_reports_without_the_size_of_a_search_are_refused(tmp_path, changes):
    with pytest.raises(UsageError, match=r"that count .*, got others for PlanetPhase3 in .*a\.json"):
        read_searches(report(tmp_path, **changes))


@pytest.mark.parametrize("changes", [{"returns": []}, {"environment": 3}, {"search": None}])
def test_other_files_are_refused(tmp_path, changes):
    with pytest.raises(UsageError, match="must name their environment and search, and have finite returns"):
        read_searches(report(tmp_path, **changes))
