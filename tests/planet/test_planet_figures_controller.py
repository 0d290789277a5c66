"""Figures 4 and 12 to 15 show what controllers of PlaNet got and how they search; all figures are drawn at once."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support.figure_runs import logged, write, write_curves

from lit_dcem import DCEM, ActionDecoder, CEMPlanner, LatentPlanner, PlanetPhase1, PlanetPhase2, WorldModel
from lit_dcem.cli.figure import draw, registered
from lit_dcem.cli.main import main
from lit_dcem.envs.make import make
from lit_dcem.errors import UsageError
from lit_dcem.planet.figures.curves import ppo_curves, read_ppo_run
from lit_dcem.planet.figures.returns import ASIDE, box_plots, by_controller
from lit_dcem.planet.figures.search import STEPS, latent_search, random_belief, search_iterations
from lit_dcem.training.figure_source import find_paths

RSSM = {"deter_dim": 8, "stoch_dim": 3}
MODEL = {"observation_dim": 4, "action_dim": 2, "hidden_dim": 8, "num_layers": 1, "rssm": RSSM}
DECODER = {"latent_dim": 2, "horizon": 7, "action_dim": 2, "hidden_dim": 8, "num_layers": 1, "init_scale": 3.0}
SEARCH = {
    "num_candidates": [9, 8, 7], "num_elites": 3, "num_iterations": 3, "num_kept": 2, "grad_iterations": 1,
    "temperature": 0.0, "lower": -1.0, "upper": 1.0,
}  # fmt: skip
ROLLOUTS = {"env": "point_mass-easy", "action_repeat": 4}


def controller():
    """A tiny module with a decoder."""
    torch.manual_seed(0)
    planner = LatentPlanner(ActionDecoder(**DECODER), DCEM(**SEARCH))
    return PlanetPhase2(WorldModel(**MODEL), planner)


def envs():
    return make(ROLLOUTS["env"], action_repeat=ROLLOUTS["action_repeat"])


def searched():
    """Arguments of figures 14 and 15."""
    module = controller()
    return module.world_model, module.planner, envs()


def config(name, **init_args):
    return {"class_path": f"lit_dcem.{name}", "init_args": init_args}


def save(path, phase=2):
    """A checkpoint as the command line writes it."""
    solver = {**SEARCH, "num_candidates": 9, "grad_iterations": None}
    planners = {
        1: config("CEMPlanner", solver=config("DCEM", **solver), horizon=3),
        2: config("LatentPlanner", decoder=config("ActionDecoder", **DECODER), solver=config("DCEM", **solver)),
    }
    module = controller() if phase == 2 else PlanetPhase1(WorldModel(**MODEL), CEMPlanner(DCEM(**solver)))
    hyper = {"world_model": config("WorldModel", **MODEL), "planner": planners[phase]}
    content = {"state_dict": module.state_dict(), "global_step": 1}
    content["hyper_parameters"] = {"_class_path": f"lit_dcem.PlanetPhase{phase}", **hyper}
    content["datamodule_hyper_parameters"] = {"_class_path": "lit_dcem.Rollouts", **ROLLOUTS}
    content["callbacks"] = {"History": {"rows": [{"step": 1.0, "seconds": 2.0, "val/return": 3.0}]}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


FULL, LATENT, SOFT = "CEM over actions", "CEM in a latent space", "DCEM in a latent space"


def evaluated(path, phase=1, returns=(1.0, 2.0), task="cheetah-run", search=None):
    """A file as ``lit-dcem evaluate --out`` writes it."""
    report = {"environment": task, "search": search or (FULL if phase == 1 else SOFT), "returns": list(returns)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"options": {}, "results": {f"PlanetPhase{phase}": report}}))
    return path


def ppo(folder, returns, every=10):
    """Events of phase 3: an evaluation every so many PPO steps, of 4 updates each."""
    updates = [4 * every * i for i in range(len(returns))]
    counts = {step: step / 4 for step in updates}
    return write(folder, {"val/return": dict(zip(updates, returns, strict=True)), "val/ppo_steps": counts})


def medians(axis):
    """The middle of each box."""
    lines = [line for line in axis.lines if line.get_color() == "tab:blue"]
    return {round(np.mean(line.get_xdata()), 3): line.get_ydata()[0] for line in lines}


def points(axis, marker):
    drawn = [line for line in axis.lines if line.get_marker() == marker]
    return [xy for line in drawn for xy in line.get_xydata().tolist()]


def test_a_box_for_each_controller_beside_the_papers_medians():
    walker = {"DCEM": [[800.0, 810.0], [850.0, 900.0]]}
    figure = box_plots(
        {"walker-walk": walker, "cheetah-run": {"DCEM": [[600.0]], "full CEM": [[1.0, 5.0, 6.0, 7.0, 90.0]]}}
    )
    figure.draw_without_rendering()
    left, right = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["cheetah-run", "walker-walk"]
    assert medians(left) == {0: 6.0, 1: 600.0} and medians(right) == {1: 830.0}
    assert points(left, ".") == [[0, 1.0], [0, 90.0]] and points(right, ".") == []
    assert points(left, "x") == [[ASIDE, 700], [1 + ASIDE, 652]]
    assert points(right, "x") == [[ASIDE, 955], [1 + ASIDE, 862]]
    labels = [label.get_text() for label in right.get_xticklabels()]
    assert labels == ["full CEM\n", "DCEM\n4 episodes\n2 seeds"]
    assert sorted(points(left, "D")) == [[-ASIDE, 6.0], [1 - ASIDE, 600.0]]  # interquartile means
    assert points(right, "D") == [[1 - ASIDE, 830.0]]
    said = ["interquartile mean, 95% interval", "median of the paper"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == said


def test_a_task_that_the_paper_has_not_gets_no_crosses():
    figure = box_plots({"hopper-hop": {"DCEM + PPO": [[3.0, 4.0]]}})
    assert medians(figure.axes[0]) == {0: 3.5}
    assert points(figure.axes[0], "x") == [] and len(figure.legends[0].get_texts()) == 1


def test_files_of_one_task_and_controller_are_its_seeds(tmp_path):
    files = [
        evaluated(tmp_path / "a.json", 1, [1, 2]), evaluated(tmp_path / "b.json", 1, [3.5]),
        evaluated(tmp_path / "c.json", 2, [4]), evaluated(tmp_path / "d.json", 3, [5], task="walker-walk"),
    ]  # fmt: skip
    assert by_controller(files) == {
        "cheetah-run": {"full CEM": [[1, 2], [3.5]], "DCEM": [[4]]},
        "walker-walk": {"DCEM + PPO": [[5]]},
    }


def test_a_search_at_temperature_0_is_not_called_dcem(tmp_path):
    files = [evaluated(tmp_path / f"{phase}.json", phase, [phase], search=LATENT) for phase in (2, 3)]
    files += [evaluated(tmp_path / "soft.json", 2, [7], search=SOFT)]
    assert by_controller(files)["cheetah-run"] == {"latent CEM": [[2]], "latent CEM + PPO": [[3]], "DCEM": [[7]]}


@pytest.mark.parametrize(
    ("phase", "search", "known"),
    [
        (2, FULL, "CEM in a latent space or DCEM in a latent space"),
        (3, "UnrolledGD in a latent space", "CEM in a latent space or DCEM in a latent space"),
        (1, LATENT, "CEM over actions"),
        (1, "UnrolledGD over actions", "CEM over actions"),
        (1, "CEM of RandomShooting", "CEM over actions"),
    ],
)
def test_no_other_planner_goes_by_the_name_of_the_papers(tmp_path, phase, search, known):
    with pytest.raises(UsageError, match=rf"PlanetPhase{phase} with {known}, got {search} in .*c\.json"):
        by_controller([evaluated(tmp_path / "c.json", phase, search=search)])


def test_figure_4_refuses_a_controller_that_is_not_as_its_checkpoint_has_it(tmp_path):
    path = evaluated(tmp_path / "c.json", 1)
    path.write_text(json.dumps({**json.loads(path.read_text()), "changed": {"num_candidates": [20, 3]}}))
    with pytest.raises(UsageError, match=r"as their checkpoints have them, got .*num_candidates.* in .*c\.json"):
        by_controller([path])


def test_returns_are_drawn_against_ppo_steps(tmp_path):
    seeds = [ppo(tmp_path / f"cheetah_phase3/version_{i}", returns) for i, returns in enumerate(([1, 2, 3], [3, 6]))]
    walker = ppo(tmp_path / "walker_phase3/version_0", [9, 8], every=5)
    runs = {"cheetah_phase3": [read_ppo_run(seed) for seed in seeds], "walker_phase3": [read_ppo_run(walker)]}
    figure = ppo_curves(runs)
    figure.draw_without_rendering()
    assert [axis.get_title() for axis in figure.axes] == ["cheetah_phase3\n2 seeds", "walker_phase3"]
    curves = [axis.lines[0].get_xydata().tolist() for axis in figure.axes]
    assert curves == [[[0, 2], [10, 4], [20, 3]], [[0, 9], [5, 8]]]
    assert [len(axis.collections) for axis in figure.axes] == [1, 0]
    short = ppo_curves({"walker_phase3": [(np.array([1.0, 2.0]), np.array([9.0, 8.0]))]})
    assert all(tick.is_integer() for tick in short.axes[0].get_xticks())


def test_searches_are_drawn_a_row_an_iteration_and_a_column_a_dimension(monkeypatch):
    searches = []

    def spied(*arguments):
        searches.append(latent_search(*arguments))
        return searches[-1]

    monkeypatch.setattr("lit_dcem.planet.figures.search.latent_search", spied)
    figures = [search_iterations(*searched()) for _ in range(2)]
    figures[0].draw_without_rendering()
    panels = figures[0].axes
    assert [axis.get_ylabel() for axis in panels[::2]] == [f"iteration {i}\naction" for i in (1, 5, 7, 10)]
    assert [axis.get_title() for axis in panels[:2]] == ["dimension 1", "dimension 2"]
    assert all(axis.get_ylim() == (-1, 1) for axis in panels)
    candidates = torch.cat([searches[0][i].candidates for i in (0, 4, 6, 9)])
    sequences = controller().planner.decoder(candidates).permute(0, 3, 1, 2).flatten(0, 1).detach().numpy()
    assert sequences.shape == (4 * 2, 100, 7)
    for figure in figures:  # the same draws every time
        drawn = np.array([[line.get_ydata() for line in axis.lines] for axis in figure.axes])
        np.testing.assert_allclose(drawn, sequences, atol=1e-6)


def test_searches_leave_the_generator_and_the_planner_alone():
    arguments = searched()
    before, options = torch.get_rng_state(), dict(arguments[1].solver.options)
    search_iterations(*arguments)
    assert torch.equal(before, torch.get_rng_state())
    assert arguments[1].solver.options == options


@torch.no_grad()
def test_search_has_the_papers_size_whatever_the_planner_acts_with():
    model, planner, *_ = searched()
    optimum = torch.tensor([0.3, -0.2])
    planner.objective = lambda problem: lambda points: (points - optimum).square().sum(-1)
    trace = latent_search(model, planner, model.rssm.initial(1), torch.Generator())
    assert len(trace) == 10 and {each.candidates.shape for each in trace} == {(1, 100, 2)}
    assert all(each.weights.sum().item() == 10 for each in trace)
    assert set(trace[0].weights.unique().tolist()) == {0, 1}  # as the planner's temperature has it
    torch.testing.assert_close(trace[9].candidates.mean((0, 1)), optimum, atol=0.01, rtol=0)


@torch.no_grad()
def test_the_state_is_one_of_an_episode_that_the_model_followed():
    module = controller()
    seen = []
    module.world_model.scale.register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
    belief = random_belief(module.world_model, envs(), torch.Generator())
    assert len(seen) == STEPS and not any(torch.equal(before, after) for before, after in pairwise(seen))
    assert belief.deter.shape == (1, 8) and belief.stoch.shape == (1, 3)
    followed = []
    for mean in (0.0, 0.0, 1.0):
        module.world_model.scale.mean.fill_(mean)
        followed.append(random_belief(module.world_model, envs(), torch.Generator().manual_seed(0)).deter)
    assert torch.equal(followed[0], followed[1]) and not torch.allclose(followed[0], followed[2])


def test_any_task_may_be_drawn_and_is_named(tmp_path):
    path = save(tmp_path / "a.ckpt")
    assert {registered()[number].draw(number, [path]).get_suptitle() for number in ("14", "15")} == {"point_mass-easy"}


def sources(folder):
    """Files for figures of PlaNet's controllers."""
    return {
        "4": [evaluated(folder / f"cheetah_phase{phase}_returns.json", phase) for phase in (1, 2, 3)],
        "12": [write(folder / "cheetah_phase2/version_0", logged())],
        "13": [ppo(folder / "cheetah_phase3/version_0", [1, 2])],
        "14": [save(folder / "cheetah_phase2_fast_0.ckpt")],
    }


def test_figures_are_written_from_the_command_line(tmp_path, capsys):
    for number, runs in sources(tmp_path).items():
        out = tmp_path / "new" / f"{number}.png"
        main(["figure", number, "--out", str(out), "--run", *map(str, runs)])
        assert out.stat().st_size > 10_000
        assert capsys.readouterr().out.strip() == str(out)


def test_bad_input_is_said_in_one_sentence(tmp_path):
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "empty.json").write_text('{"results": {}}')
    (tmp_path / "cartpole.json").write_text('{"results": {"CartpoleEmbedding": {"cost": 1}}}')
    evaluated(tmp_path / "nan.json", 1, [1.0, float("nan")])
    evaluated(tmp_path / "none.json", 1, [])
    evaluated(tmp_path / "word.json", 1, ["high"])
    save(tmp_path / "phase1.ckpt", phase=1)
    write(tmp_path / "phase1", logged())
    without = {tag: values for tag, values in logged().items() if tag != "train/kl"}
    for number, runs, pattern in [
        ("4", ["gone.json"], r"JSON files of lit-dcem evaluate --out, got .*gone\.json \(FileNotFoundError\)"),
        ("4", ["text.json"], r"JSON files .*, got .*text\.json \(JSONDecodeError\)"),
        ("4", ["list.json"], "without results"),
        ("4", ["empty.json"], "without results"),
        ("4", ["cartpole.json"], "returns of PlanetPhase1, PlanetPhase2, PlanetPhase3, got those of CartpoleEmbedding"),
        ("4", ["nan.json"], "finite returns, got others for PlanetPhase1"),
        ("4", ["none.json"], "finite returns"),
        ("4", ["word.json"], "finite returns"),
        (
            "12",
            [write(tmp_path / "short", without).name],
            "Figure 12 needs runs that logged train/kl, got none in .*short",
        ),
        ("13", ["phase1"], "Figure 13 needs runs that logged val/ppo_steps, got none in .*phase1"),
        ("13", ["gone"], "or a .* file, got .*gone"),
        ("14", ["phase1.ckpt"], "Figure 14 needs a checkpoint of PlanetPhase2 or PlanetPhase3, got PlanetPhase1 in .*"),
        ("15", ["phase1.ckpt", "phase1.ckpt"], "Figure 15 needs a single --run, got 2"),
        ("15", ["nan.json"], "not a whole checkpoint"),
    ]:
        with pytest.raises(UsageError, match=pattern) as caught:
            draw(number, [str(tmp_path / run) for run in runs], str(tmp_path / "x.png"))
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not (tmp_path / "x.png").exists()


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A folder in place of the shipped one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lit_dcem.training.figure_source.shipped", lambda folder: tmp_path / folder)
    return tmp_path / "checkpoints"


def test_all_figures_are_drawn_that_have_their_files(checkpoints, capsys):
    for number, runs in sources(checkpoints).items():
        if number in ("12", "13"):
            table = write_curves(runs[0], {**logged(), "val/ppo_steps": {25: 1.0, 75: 2.0}}) / "curves.csv"
            table.rename(checkpoints / f"cheetah_phase{int(number) - 10}_fast_0.csv")
    main(["figure", "all", "--out", "new/figures"])
    said = capsys.readouterr()
    drawn = ["3", "4", "7", "12", "13", "14", "hours"]
    assert said.out.splitlines() == [f"new/figures/figure{number}.png" for number in drawn]
    assert all(Path(line).stat().st_size > 10_000 for line in said.out.splitlines())
    left_out = said.err.splitlines()
    assert len(left_out) == len(registered()) - len(drawn)
    assert all(line.startswith("lit-dcem: Left out: Figure ") and line.endswith(".") for line in left_out)
    assert "Figure 15 needs --run or shipped files walker_phase2*.ckpt or walker_phase3*.ckpt, got none" in left_out[-3]
    assert "Figure gradient needs --run or shipped files sweep_cartpole_gradient.csv, got none" in left_out[-2]
    rule = "Figure trajectories needs --run or shipped files trajectories/*.json or swingup_phase*_returns.json"
    assert f"{rule}, got none" in left_out[-1]


def test_phase_2_is_shown_rather_than_phase_3(checkpoints):
    checkpoints.mkdir()
    for name in ("walker_phase2_0", "cheetah_phase3_0", "cheetah_phase2_1", "cheetah_phase2_0"):
        (checkpoints / f"{name}.ckpt").touch()
    assert find_paths("14", registered()["14"], None) == [checkpoints / "cheetah_phase2_0.ckpt"]
    for phase2 in checkpoints.glob("cheetah_phase2*"):
        phase2.unlink()
    assert find_paths("14", registered()["14"], None) == [checkpoints / "cheetah_phase3_0.ckpt"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--run", "a"], "Figure all is drawn from the shipped files and takes no --run, got a."),
        (["--out", "file"], "--out must be a folder for figure all, got the file file."),
    ],
)
def test_all_figures_take_a_folder_and_no_run(checkpoints, capsys, arguments, says):
    Path("file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["figure", "all", *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"lit-dcem: {says}\n"


def test_figures_are_registered_in_the_papers_order_and_offered(capsys):
    numbers = [*map(str, range(1, 16)), "gradient", "hours", "trajectories"]
    assert list(registered()) == numbers
    with pytest.raises(SystemExit):
        main(["figure", "16"])
    assert f"A figure must be one of {', '.join(numbers)}, got 16." in capsys.readouterr().err


@pytest.mark.slow
def test_all_shipped_files_can_be_drawn(tmp_path, capsys):
    main(["figure", "all", "--out", str(tmp_path)])
    said = capsys.readouterr()
    assert len(said.out.splitlines()) + len(said.err.splitlines()) == len(registered())
