"""Evaluation of cartpole planners, as functions and as the command takes it."""

import json
from pathlib import Path

import imageio.v2 as imageio
import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs
from pytorch_lightning import Trainer
from torch.testing import assert_close

from lit_dcem import DCEM, FullSpacePlanner, RegressionData
from lit_dcem.cartpole.closed_loop import Episode, control, plan_costs
from lit_dcem.cartpole.dynamics import reward, rollout_cost, step
from lit_dcem.cartpole.film import episode_frames
from lit_dcem.cartpole.planners import CartpolePlanner
from lit_dcem.cartpole.states import held_out_states, validation_states
from lit_dcem.cli import evaluate
from lit_dcem.cli.evaluate import run
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.files.replacing import WriteError
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.statistics import bootstrap_interval
from lit_dcem.training.video import write_video

ROOT = Path(__file__).parents[2]
EXPERT = str(ROOT / "configs/cartpole_expert.yaml")
SOLVER = "--planner.init_args.solver.init_args"
TINY = ["--config", EXPERT, f"{SOLVER}.num_candidates=20", f"{SOLVER}.num_elites=4", f"{SOLVER}.num_iterations=2"]
LOOP = ["--closed_loop", "--episodes=3", "--steps=6"]
UPRIGHT = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]])
HANGING = torch.tensor([[0.0, 0.0, -1.0, 0.0, 0.0]])


def planner(**options) -> FullSpacePlanner:
    sizes = {"num_candidates": 200, "num_elites": 10, "num_iterations": 6, **options}
    return FullSpacePlanner(DCEM(temperature=0.0, lower=-100.0, upper=100.0, **sizes))


class Shapeless(CartpolePlanner):
    def forward(self, states):
        return states[:, 0]


def noisy(states):
    return torch.randn(len(states), 20)


def test_costs_of_each_seed_are_reproducible_and_leave_the_global_noise_alone():
    states, before = validation_states()[:4], torch.get_rng_state()
    costs = plan_costs(noisy, states, [3, 0, 3])
    assert costs.shape == (3, 4) and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(costs[0], costs[2]) and not torch.equal(costs[0], costs[1])
    torch.manual_seed(3)
    assert torch.equal(costs[0], rollout_cost(states, torch.randn(4, 20).unsqueeze(1)).squeeze(1))


def test_many_states_are_planned_for_in_batches():
    sizes = []
    costs = plan_costs(
        lambda states: sizes.append(len(states)) or states.new_zeros(len(states), 20), held_out_states(), [0]
    )
    assert costs.shape == (1, 1000) and max(sizes) == 100


def test_the_closed_loop_applies_the_first_force_and_plans_again():
    states = validation_states()[:3]
    episode = control(lambda s: 10 * s[:, :2], states, 4, keep_plans=False)
    state = states
    for t in range(4):
        assert_close(episode.states[t], state)
        assert_close(episode.forces[t], 10 * state[:, 0])
        assert_close(episode.rewards[t], reward(state, 10 * state[:, 0]))
        state = step(state, 10 * state[:, 0])
    assert_close(episode.states[4], state)
    assert_close(episode.cost, -episode.rewards.sum(0))


def test_a_plan_is_kept_while_no_new_one_is_cheaper():
    torch.manual_seed(0)
    good = planner(num_candidates=300)(HANGING)
    plans = iter([good, *(torch.full((1, 20), 100.0) for _ in range(9))])
    episode = control(lambda s: next(plans), HANGING, 10)
    assert_close(episode.forces[:, 0], good[0, :10])


def test_a_cheaper_plan_takes_over():
    plans = iter([torch.full((1, 20), 100.0), torch.zeros(1, 20), torch.zeros(1, 20)])
    assert control(lambda s: next(plans), UPRIGHT, 3).forces[:, 0].tolist() == [100.0, 0.0, 0.0]


def test_time_upright_counts_the_steps_ends():
    states = torch.zeros(51, 3, 5)
    states[1:, 0, 2] = 1
    states[11:, 1, 2] = 0.96
    states[1:50, 2, 2] = 1
    episode = Episode(states, torch.zeros(50, 3), torch.ones(50, 3))
    assert_close(episode.time_upright, torch.tensor([2.5, 2.0, 2.45]))
    assert episode.balanced.tolist() == [True, True, False]
    assert Episode(states[:5], torch.zeros(4, 3), torch.ones(4, 3)).balanced.tolist() == [True, False, True]


def test_an_upright_pole_stays_upright_without_a_push():
    episode = control(lambda s: s.new_zeros(len(s), 20), UPRIGHT, 50)
    assert episode.balanced.all() and episode.cost.item() == pytest.approx(-50)


def test_the_expert_swings_a_hanging_pole_up_and_keeps_it_there():
    episode = control(planner(num_candidates=300), HANGING, 120)
    assert episode.time_upright.item() > 4
    assert episode.states[-40:, 0, 2].mean() > 0.95


def test_a_loop_needs_steps():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        control(noisy, UPRIGHT, 0)


def test_the_interval_of_a_mean():
    """The last one is known: of values 0 and 1, resamples of 2 have the means 0, 1/2 and 1."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 1000**0.5, rel=0.15)
    assert bootstrap_interval(torch.full((5,), 2.0)) == (2.0, 2.0)
    assert bootstrap_interval(torch.tensor([2.0])) is None
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(torch.tensor([0.0, 1.0])) == (0.0, 1.0)


def test_a_config_is_evaluated(tmp_path, capsys):
    run([*TINY, "--seeds=2", "--out", str(tmp_path / "new" / "costs.json")])
    content = json.loads((tmp_path / "new" / "costs.json").read_text())
    assert content["options"]["planner"]["init_args"]["solver"]["init_args"]["num_candidates"] == 20
    (report,) = content["results"].values()
    expected = plan_costs(planner(num_candidates=20, num_elites=4, num_iterations=2), validation_states(), [0, 1])
    assert report["cost_of_seeds"] == pytest.approx(expected.mean(1).tolist())
    assert report["cost"] == pytest.approx(expected.mean().item())
    assert report["improvement"] == pytest.approx(expected.mean().item() / -9.05)
    assert report["cost_interval"][0] < report["cost"] < report["cost_interval"][1]
    assert report["trajectories"] == 40
    printed = capsys.readouterr().out
    assert f"{report['cost']:.2f}" in printed and "FullSpacePlanner" in printed


def test_held_out_states(tmp_path, capsys):
    run([*TINY, "--states=held-out", "--seeds=1", "--out", str(tmp_path / "costs.json")])
    (report,) = json.loads((tmp_path / "costs.json").read_text())["results"].values()
    assert report["states"] == 1000 and report["cost_std_over_seeds"] is None


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_closed_loop_beside_the_expert(tmp_path, capsys, suffix):
    video = tmp_path / "new" / f"film{suffix}"
    run([*TINY, *LOOP, "--video", str(video), "--out", str(tmp_path / "loop.json")])
    results = json.loads((tmp_path / "loop.json").read_text())["results"]
    assert list(results) == ["FullSpacePlanner", "expert"]
    assert results["FullSpacePlanner"]["trajectories"] == 40 and results["expert"]["trajectories"] == 3000
    assert all(report["episodes"] == 3 and report["steps"] == 6 for report in results.values())
    # imageio's own reader of .mp4 leaves pipes open.
    length = count_frames_and_secs(video)[0] if suffix == ".mp4" else len(imageio.mimread(video))
    assert length == 6


def test_frames_show_every_step():
    episode = control(noisy, validation_states()[:1], 3)
    frames = list(episode_frames({"one": (episode.states[:, 0], episode.forces[:, 0])}))
    assert [frame.shape for frame in frames] == [(480, 960, 3)] * 3
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()


def test_another_expert(tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(Path(EXPERT).read_text().replace("num_iterations: 30", "num_iterations: 1"))
    run([*TINY, *LOOP, "--expert", str(other)])
    assert " 100 " in capsys.readouterr().out


def test_the_expert_is_not_compared_with_itself(capsys):
    run(["--config", EXPERT, *LOOP])
    assert "expert " not in capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    ["runs/cartpole/version_0", pytest.param("runs/cartpole/version_0/checkpoints/best.ckpt", marks=pytest.mark.slow)],
)
def test_a_checkpoint_is_evaluated(tmp_path, monkeypatch, capsys, path):
    monkeypatch.chdir(tmp_path)
    configs = [f"--config={ROOT / 'configs' / name}.yaml" for name in ("cartpole", "debug")]
    main(["fit", *configs, "--model.init_args.decoder.init_args.hidden_dim=8", "--trainer.accelerator=cpu"])
    capsys.readouterr()
    run(["--checkpoint", path, "--seeds=1", "--out=costs.json"])
    content = json.loads(Path("costs.json").read_text())
    assert content["options"]["checkpoint"] == path
    assert content["results"]["CartpoleEmbedding"]["trajectories"] == 21  # ten candidates, twice, and the answer
    run(["--checkpoint", path, *LOOP])
    assert "expert" in capsys.readouterr().out


@pytest.mark.parametrize(("points", "name"), [("validation", "regression_dcem_0"), ("held-out", "regression_gd_0")])
def test_regression_is_measured_as_lightning_validates_and_tests(tmp_path, monkeypatch, capsys, points, name):
    monkeypatch.chdir(tmp_path)
    run([f"--checkpoint={name}", f"--points={points}", "--out=errors.json"])
    printed = capsys.readouterr().out
    (report,) = json.loads(Path("errors.json").read_text())["results"].values()
    stage = {"validation": "validate", "held-out": "test"}[points]
    checkpoint = Checkpoint.read(name)
    trainer = Trainer(logger=False, enable_progress_bar=False, inference_mode=False, accelerator="cpu")
    (metrics,) = getattr(trainer, stage)(checkpoint.module(), RegressionData(), verbose=False)
    tag = stage.removesuffix("idate")
    assert report["mse"] == metrics[f"{tag}/mse"]
    assert report["mse_after"] == {n: metrics[f"{tag}/mse_{n}"] for n in ("1", "5", "8", "10", "15", "20")}
    assert "EnergyRegression" in printed and "after 20 inner iterations" in printed


def test_the_help_groups_options_by_experiment(capsys):
    with pytest.raises(SystemExit):
        run(["--help"])
    groups = capsys.readouterr().out.partition("\ncartpole:")[2]
    order = [
        "--states",
        "--closed_loop",
        "\ncartpole and PlaNet:",
        "--episodes N",
        "--env_seed",
        "\nregression:",
        "--points",
    ]
    places = [groups.index(text) for text in order]
    assert places == sorted(places)


def test_the_shipped_pca_is_evaluated(capsys):
    small = ["--planner.init_args.num_solutions=20", "--planner.init_args.grid_size=9", "--seeds=1"]
    run(["--config", str(ROOT / "configs/cartpole_pca.yaml"), *small])
    assert " 81 " in capsys.readouterr().out


def test_the_stronger_expert_of_the_shipped_config(capsys):
    run(["--config", EXPERT, f"{SOLVER}.num_candidates=1000", f"{SOLVER}.num_iterations=10", "--seeds=1"])
    assert " 10,000 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Give either --config with a planner or --checkpoint, got neither."),
        (
            ["--config", EXPERT, "--checkpoint", str(ROOT / "checkpoints/cartpole_d2_0.ckpt")],
            "got planner and checkpoint.",
        ),
        (["--config", "nope.yaml"], "nope.yaml"),
        (["--config", str(ROOT / "configs/cartpole.yaml")], "model"),
        (["--checkpoint", "nowhere"], "nowhere"),
        ([*TINY, "--states=all"], "--states must be validation or held-out, got all."),
        ([*TINY, "--env=cartpole-swingup"], "must be known, got --env=cartpole-swingup."),
        ([*TINY, "--env_seed=1"], "--env_seed needs a checkpoint of PlaNet, got FullSpacePlanner."),
        ([*TINY, "--points=held-out"], "--points needs a checkpoint of EnergyRegression, got FullSpacePlanner."),
        (["--checkpoint=cartpole_d2_0", "--seed=0"], "--seed needs a checkpoint of PlaNet, got CartpoleEmbedding."),
        (
            ["--checkpoint=regression_gd_0", "--seeds=2"],
            "--seeds needs a planner of the cartpole, got EnergyRegression.",
        ),
        (["--checkpoint=regression_gd_0", "--video=a.gif"], "the cartpole or a checkpoint of PlaNet, got EnergyReg"),
        (
            ["--checkpoint=regression_gd_0", "--config", EXPERT],
            "--planner needs a planner of the cartpole or",
        ),
        (["--checkpoint=regression_gd_0", "--points=all"], "--points must be validation or held-out, got all."),
        ([*TINY, "--steps=9"], "--steps needs --closed_loop, got --steps 9 alone."),
        ([*TINY, "--keep_plans=true"], "--keep_plans needs --closed_loop"),
        ([*TINY, *LOOP, "--seeds=5"], "--seeds has no meaning with --closed_loop, got --seeds 5."),
        ([*TINY, "--seeds=0"], "--seeds must be at least 1, got 0."),
        ([*TINY, "--seeds=x"], "seeds"),
        ([*TINY, *LOOP, "--episodes=101"], "--episodes must be between 1 and 100, got 101."),
        ([*TINY, *LOOP, "--steps=0"], "--steps must be at least 1, got 0."),
        ([*TINY, *LOOP, "--expert=nope.yaml"], "nope.yaml"),
        ([*TINY, *LOOP, "--video=film.avi"], "--video must end in .mp4 or .gif, got film.avi."),
        ([*TINY, "--video=film.mp4"], "--video needs --closed_loop"),
        ([*TINY, "--out=."], "must be files"),
        ([*TINY, "--out=mine.ckpt"], "--out and --video must not replace a checkpoint, got mine.ckpt."),
        ([*TINY, f"{SOLVER}.num_elites=300"], "num_elites must be at most num_candidates, got 300 and 20."),
        ([*TINY, f"{SOLVER}.num_elite=3"], "num_elite"),
        ([*TINY, "--planner.init_args.answer=worst"], "worst"),
        ([*TINY, f"{SOLVER}.horizon=7"], "horizon must divide the dimension of the problem, got 7 and 20."),
        (["--planner=torch.nn.Flatten"], "torch.nn.Flatten"),
        (["--planner=CEMPlanner", "--planner.init_args.solver=DCEM"], "A CEMPlanner needs --checkpoint"),
        (["--planner=lit_dcem.cartpole.planners.CartpolePlanner"], "CartpolePlanner"),
        ([f"--planner={__name__}.Shapeless"], "map states [1, 5] to forces [1, H], got [1] of Shapeless."),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        run(arguments)
    sentence = str(error.value)
    assert says in sentence and sentence.endswith(".") and "\n" not in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out=file/a.json"], "--out must be writable, got file/a.json (Not a directory)."),
        ([*LOOP, "--video=file/a.mp4"], "--video must be writable, got file/a.mp4 (Not a directory)."),
        (["--out=" + "x" * 300], "(File name too long)."),
        ([*LOOP, "--video=a.gif", "--out=a.gif"], "--out and --video must be different files, got a.gif."),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_planned(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(FullSpacePlanner, "forward", None)  # would raise
    with pytest.raises(UsageError) as error:
        run([*TINY, *arguments])
    assert says in str(error.value) and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_measured_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"must not replace a checkpoint, got \./a\.pt\."):
        run(["--checkpoint=a.pt", "--out=./a.pt"])
    assert (tmp_path / "a.pt").read_bytes() == b"weights"


def test_numbers_are_kept_though_there_is_no_room_for_the_video(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise WriteError("There must be room, got none.")

    monkeypatch.setattr(evaluate, "write_video", full)
    with pytest.raises(UsageError, match="room"):
        run([*TINY, *LOOP, "--expert", EXPERT, "--out", str(tmp_path / "a.json"), "--video", str(tmp_path / "a.gif")])
    assert json.loads((tmp_path / "a.json").read_text())["results"] and "seconds upright" in capsys.readouterr().out


def test_a_video_is_an_mp4_or_a_gif(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.mp4 or \.gif, got"):
        write_video(tmp_path / "film.webm", [], 20)
