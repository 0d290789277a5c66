"""``lit-dcem evaluate --checkpoint FILE --planner.OPTION``: the checkpoint's planner with other options."""

import json
from pathlib import Path

import pytest
from support.command_runs import QUIET, folder, typed
from support.copies import SOON, copied

from lit_dcem.cli.main import main

CARTPOLE = ["--checkpoint=cartpole_state_0", "--seeds=1"]
SOLVER = "planner.solver"
SHIPPED = {1: "swingup_phase1_1", 2: "swingup_phase2_1", 3: "swingup_phase3_2"}
"""the small task, by phase"""
VALUE = ["--config=value", "--config=debug", "--data.time_limit=80", "--model.planner.horizon=4"]


@pytest.fixture(scope="module")
def small(made_once):
    """Checkpoints of the small task whose episodes end soon."""
    return made_once("small_phases", _copy)


def _copy():
    for phase in (1, 2, 3):
        copied(SHIPPED[phase], f"phase{phase}.ckpt", data=SOON)


@pytest.fixture(scope="module")
def valued(made_once):
    """A run whose planner has a value."""
    run = made_once("valued_phase1", lambda: main(["fit", "--config=swingup_phase1", *VALUE, *QUIET]))
    return [f"--checkpoint={run / 'runs/swingup_phase1'}", "--episodes=1"]


def evaluate(*words, out="a.json"):
    """What the command writes to --out, and the report in it."""
    main(["evaluate", *words, f"--out={out}"])
    content = json.loads(Path(out).read_text())
    (report,) = content["results"].values()
    return content, {name: value for name, value in report.items() if not name.startswith("seconds")}


def refusal(capsys, *words):
    """The sentence with which the command ends."""
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *words])
    said = capsys.readouterr()
    assert stop.value.code == 2 and not said.out
    assert said.err.startswith("lit-dcem: ") and said.err.endswith(".\n") and said.err.count("\n") == 1
    return said.err.removeprefix("lit-dcem: ").strip()


@pytest.mark.parametrize(
    "words",
    [
        [f"--{SOLVER}.temperature=0.5"],
        [f"--{SOLVER}.temperature", "0.5"],
        ["--planner.init_args.solver.init_args.temperature=0.5"],
        ['--planner={"solver": {"temperature": 0.5}}'],
        ['--planner={"solver.temperature": 0.5}'],
        ["--config=over.yaml"],
    ],
)
def test_one_option_of_a_cartpole_changes_in_every_spelling(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    Path("over.yaml").write_text("planner: {init_args: {solver: {init_args: {temperature: 0.5}}}}\n")
    content, report = evaluate(*CARTPOLE, *words)
    assert "The checkpoint's planner with solver.temperature 0.5 (was 0.0)." in capsys.readouterr().out
    assert content["changed"] == {"solver.temperature": {"from": 0.0, "to": 0.5}}
    planner = content["options"]["planner"]
    assert planner["class_path"] == "lit_dcem.CartpoleEmbedding"
    options = planner["init_args"]["solver"]["init_args"]
    assert (options["temperature"], options["num_candidates"], options["num_iterations"]) == (0.5, 24, 4)
    recorded = copied("cartpole_state_0", "recorded.ckpt", {"solver.temperature": 0.5})
    assert evaluate(f"--checkpoint={recorded}", "--seeds=1")[1] == report
    assert evaluate(*CARTPOLE)[1]["cost"] != report["cost"]


def test_what_is_not_changed_is_as_without_options(tmp_path, monkeypatch, capsys):
    """The weights, too: the same value again gives the same costs, and the record says that nothing differs."""
    monkeypatch.chdir(tmp_path)
    content, report = evaluate(*CARTPOLE, f"--{SOLVER}.num_candidates=24")
    assert content["changed"] == {} and "The checkpoint's planner as it is." in capsys.readouterr().out
    plain, before = evaluate(*CARTPOLE)
    assert report == before and "changed" not in plain and "planner" not in plain["options"]
    assert "The checkpoint's planner" not in capsys.readouterr().out


def test_the_trajectories_and_the_answer_of_a_cartpole_are_those_of_the_changed_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = [f"--{SOLVER}.num_candidates=[20,10]", f"--{SOLVER}.num_iterations=2", f"--{SOLVER}.num_elites=5"]
    assert evaluate(*CARTPOLE, *few)[1]["trajectories"] == 31
    content, report = evaluate(*CARTPOLE, *few, "--planner.answer=mean", "--planner.initial_std=0.3")
    assert report["trajectories"] == 30
    assert content["changed"]["answer"] == {"from": "best", "to": "mean"}
    assert content["changed"]["solver.num_candidates"] == {"from": 24, "to": [20, 10]}


def test_the_closed_loop_of_a_changed_planner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["evaluate", CARTPOLE[0], "--closed_loop", "--episodes=2", "--steps=3", f"--{SOLVER}.num_candidates=30",
          "--out=a.json"])  # fmt: skip
    results = json.loads(Path("a.json").read_text())["results"]
    assert results["CartpoleEmbedding"]["trajectories"] == 121 and results["expert"]["trajectories"] == 3000


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_one_option_of_a_phase_changes(small, tmp_path, monkeypatch, capsys, phase):
    monkeypatch.chdir(tmp_path)
    words = [f"--checkpoint={small / f'phase{phase}.ckpt'}", "--episodes=2"]
    content, report = evaluate(*words, f"--{SOLVER}.num_candidates=30")
    (change,) = content["changed"].items()
    assert change[0] == "solver.num_candidates" and change[1]["to"] == 30
    assert f"num_candidates 30 (was {change[1]['from']})" in capsys.readouterr().out
    solver = content["options"]["planner"]["init_args"]["solver"]["init_args"]
    assert report["trajectories_a_decision"] == 30 * solver["num_iterations"]
    model = {"planner.solver.num_candidates": 30}
    recorded = copied(SHIPPED[phase], "recorded.ckpt", model, SOON)
    assert evaluate(f"--checkpoint={recorded}", "--episodes=2")[1] == report
    assert evaluate(*words)[1]["returns"] != report["returns"]


@pytest.mark.slow
def test_the_joint_phase_plans_with_other_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(typed("joint", "--trainer.max_epochs=1", "--trainer.logger=false"))
    content, report = evaluate(f"--checkpoint={folder('joint')}", "--episodes=1", "--planner.solver.num_candidates=12")
    assert content["changed"] == {"solver.num_candidates": {"from": 10, "to": 12}}
    assert report["trajectories_a_decision"] == 24


def test_options_of_the_planner_itself(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"--checkpoint={small / 'phase1.ckpt'}", "--episodes=1"]
    content, _ = evaluate(*words, "--planner.horizon=6", "--planner.init_args.keep_plans=true")
    assert content["changed"] == {"horizon": {"from": 15, "to": 6}, "keep_plans": {"from": False, "to": True}}


def test_a_third_phase_is_measured_with_options_that_it_could_not_be_trained_with(small, tmp_path, monkeypatch):
    """Its reward is tuned through the search, which needs a temperature above 0, and so in float32."""
    monkeypatch.chdir(tmp_path)
    auto = copied(SHIPPED[3], "auto.ckpt", {"planner.precision": "auto"}, SOON)
    content, _ = evaluate(f"--checkpoint={auto}", "--episodes=1", f"--{SOLVER}.temperature=0")
    assert content["changed"] == {"solver.temperature": {"from": 0.1, "to": 0.0}}
    assert content["options"]["planner"]["init_args"]["precision"] == "float32"


def test_a_part_that_is_given_with_a_class_begins_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, report = evaluate(*CARTPOLE, f"--{SOLVER}=DCEM", f"--{SOLVER}.num_candidates=30")
    assert content["changed"]["solver.num_elites"] == {"from": 5, "to": 10} and report["trajectories"] == 301
    content, report = evaluate(*CARTPOLE, f"--{SOLVER}=UnrolledGD", f"--{SOLVER}.num_steps=3")
    assert report["trajectories"] == 4 and content["changed"]["solver"]["to"]["class_path"] == "lit_dcem.UnrolledGD"
    assert "The checkpoint's planner with solver UnrolledGD (was DCEM)." in capsys.readouterr().out


def test_a_planner_can_do_without_its_value(valued, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, _ = evaluate(*valued, "--planner.value=null")
    assert list(content["changed"]) == ["value"] and content["options"]["planner"]["init_args"]["value"] is None
    assert "value null (was ValueEnsemble)" in capsys.readouterr().out
    assert evaluate(*valued, f"--{SOLVER}.num_candidates=10")[1] == evaluate(*valued)[1]
    capsys.readouterr()
    said = refusal(capsys, *valued, "--planner.value.num_heads=3")
    assert said == "--planner.value must stay as it was trained, or be null, got --planner.value.num_heads=3."


def test_a_function_is_recorded_by_its_path(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("own_goal.py").write_text("def upright(observation, action):\n    return observation[..., 1]\n")
    content, _ = evaluate(f"--checkpoint={small / 'phase2.ckpt'}", "--episodes=1",
                          "--planner.known_reward=own_goal.upright")  # fmt: skip
    assert content["changed"] == {"known_reward": {"from": None, "to": "own_goal.upright"}}
    assert content["options"]["planner"]["init_args"]["known_reward"] == "own_goal.upright"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([f"--{SOLVER}.temprature=0"], "Options must be known, got planner.solver.temprature."),
        (
            ["--planner.keep_plans=true"],
            "--planner must change solver, initial_std or answer of a CartpoleEmbedding, got --planner.keep_plans.",
        ),
        (
            ["--planner.optimizer.lr=1"],
            "--planner must change solver, initial_std or answer of a CartpoleEmbedding, got --planner.optimizer.",
        ),
        (
            ["--planner.decoder.latent_dim=3"],
            "--planner.decoder must stay as it was trained, got --planner.decoder.latent_dim=3.",
        ),
        (
            ["--planner.init_args.decoder=ActionDecoder"],
            "--planner.decoder must stay as it was trained, got --planner.decoder=ActionDecoder.",
        ),
        (
            ['--planner={"decoder.init_args.activation": "relu"}'],
            "--planner.decoder must stay as it was trained, got --planner.decoder.activation=relu.",
        ),
        ([f"--{SOLVER}.temperature=warm"], "planner.solver.temperature must be a number, got warm."),
        ([f"--{SOLVER}.num_elites=50"], "num_elites must be at most num_candidates, got 50 and 24."),
        ([f"--{SOLVER}=Nowhere"], "planner.solver must be a known class, or its path like package.Class, got Nowhere."),
        (["--planner.initial_std=0"], "initial_std must be positive and finite, got 0.0."),
        (
            ["--planner=FullSpacePlanner", "--planner.solver=DCEM"],
            "Give either --config with a planner or --checkpoint, got planner and checkpoint.",
        ),
    ],
)
def test_what_a_cartpole_cannot_change_is_one_sentence(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, *CARTPOLE, *words, "--out=a.json") == says
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("phase", "words", "says"),
    [
        (1, ["--planner.horizn=3"], "Options must be known, got planner.horizn."),
        (2, [f"--{SOLVER}.horizn=3"], "Options must be known, got planner.solver.horizn."),
        (2, ["--planner.horizon=3"], "Options must be known, got planner.horizon."),
        (
            2,
            ["--planner.decoder.horizon=3"],
            "--planner.decoder must stay as it was trained, got --planner.decoder.horizon=3.",
        ),
        (3, ["--planner.keep_plans=perhaps"], "planner.keep_plans must be true or false, got perhaps."),
        (
            1,
            ["--planner.value=ValueEnsemble"],
            "--planner.value must stay as it was trained, or be null, got --planner.value=ValueEnsemble.",
        ),
        (
            1,
            ["--states=held-out", "--planner.horizon=3"],
            "--states needs a planner of the cartpole, got PlanetPhase1.",
        ),
    ],
)
def test_what_a_phase_cannot_change_is_one_sentence(small, capsys, phase, words, says):
    assert refusal(capsys, f"--checkpoint={small / f'phase{phase}.ckpt'}", "--episodes=1", *words) == says


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [f"--{SOLVER}.temperature=0"],
            "--planner needs a class, or --checkpoint with a planner to change, "
            "got --planner.solver.temperature=0 alone.",
        ),
        (
            ["--checkpoint=regression_dcem_0", f"--{SOLVER}.temperature=0"],
            "--planner needs a planner of the cartpole or a checkpoint of PlaNet, got EnergyRegression.",
        ),
        (
            ["--checkpoint=nowhere", f"--{SOLVER}.temperature=0"],
            "A checkpoint must be a file, a run folder with checkpoints/last.ckpt or the name of a shipped one, "
            "got nowhere.",
        ),
    ],
)
def test_options_need_a_planner_to_change(capsys, words, says):
    assert refusal(capsys, *words) == says


def test_the_last_checkpoint_that_is_named_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("over.yaml").write_text("checkpoint: cartpole_state_0\nplanner: {initial_std: 0.4}\nseeds: 1\n")
    content, _ = evaluate("--checkpoint", "cartpole_d2_0", "--config", "over.yaml")
    assert content["options"]["checkpoint"] == "cartpole_state_0"
    assert content["options"]["planner"]["init_args"]["decoder"]["init_args"]["condition_dim"] == 5
    content, _ = evaluate("--config", "over.yaml", "--checkpoint=cartpole_d2_0", f"--{SOLVER}.num_iterations=10")
    assert content["options"]["planner"]["init_args"]["decoder"]["init_args"]["latent_dim"] == 2
