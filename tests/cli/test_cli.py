"""The command line, as a user types it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_dcem.cli.ending import NOTHING
from lit_dcem.cli.main import main
from lit_dcem.solvers.noise import Spline
from lit_dcem.solvers.weights import Softmax
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.messages import one_sentence

ROOT = Path(__file__).parents[2]
CONFIG = ["--config", str(ROOT / "configs/regression.yaml"), "--config", str(ROOT / "configs/debug.yaml")]
SMALL = ["--model.init_args.energy.init_args.hidden_dim=8", "--trainer.accelerator=cpu"]
FIT = ["fit", *CONFIG, *SMALL]
RUN = Path("runs/regression/version_0")


@pytest.fixture
def fitted(tmp_path, monkeypatch, made_once):
    shutil.copytree(made_once("fitted", lambda: main(FIT)), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments):
    """Exit code 2 and one sentence, which is returned."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    sentence = next(line for line in lines if line.startswith("lit-dcem: "))
    assert sentence.endswith(".")
    return sentence


def test_help_needs_no_torch():
    code = (
        "import sys, lit_dcem.cli.main as c\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(command in done.stdout for command in ("fit", "validate", "test", "evaluate", "figure", "sweep"))


def test_checkout_script_is_the_command():
    done = subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: lit-dcem")


def test_fit_writes_a_run_folder(fitted):
    names = {str(path.relative_to(fitted / RUN)) for path in (fitted / RUN).rglob("*") if path.is_file()}
    assert {"config.yaml", "curves.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    assert any("tfevents" in name for name in names)


def test_a_run_knows_where_it_comes_from(fitted):
    origin = Checkpoint.read(fitted / RUN).origin
    assert origin.keys() == {"seed", "commits", "hardware"}
    assert isinstance(origin["seed"], int) and len(origin["commits"]) <= 1  # an installed package has none
    assert len(origin["hardware"]) == 1 and "1 thread of " in origin["hardware"][0]


@pytest.mark.parametrize("words", [1, 2])
def test_a_config_may_be_typed_on_the_command_line_however_long(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    typed = json.dumps({"trainer": {"max_epochs": 1}, "seed_everything": 3}).ljust(5000)
    main([*FIT, *([f"--config={typed}"] if words == 1 else ["--config", typed])])
    assert Checkpoint.read(str(RUN)).content["epoch"] == 1
    assert "seed_everything: 3" in (RUN / "config.yaml").read_text()


def test_a_single_callback_needs_no_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text("trainer: {callbacks: {class_path: pytorch_lightning.callbacks.LearningRateMonitor}}\n")
    main([*FIT, "--config=one.yaml"])
    main(["validate", *FIT[1:], "--config=one.yaml", "--ckpt_path", str(RUN / "checkpoints/last.ckpt")])


def test_fit_says_what_it_trains_and_ends_by_saying_where_everything_is(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    main(FIT)
    summary, said = capsys.readouterr().out, caplog.records[-1].getMessage()
    assert "EnergyNetwork" in summary and "parameters learn" in summary and "FLOPs" not in summary
    assert "see its curves: tensorboard --logdir runs/regression/version_0" in said
    assert f"measure it: lit-dcem evaluate --checkpoint {RUN}/checkpoints/best.ckpt; resume it" in said


def test_fit_without_a_checkpoint_does_not_say_that_it_can_be_measured(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    main([*FIT, "--trainer.enable_checkpointing=false"])
    said = caplog.records[-1].getMessage()
    assert said == "Done; see its curves: tensorboard --logdir runs/regression/version_0."


@pytest.mark.parametrize("option", ["max_epochs=0", "max_steps=0", "limit_train_batches=0"])
def test_a_run_without_updates_leaves_no_folder_that_others_would_take_for_the_newest(
    tmp_path, monkeypatch, caplog, option
):
    monkeypatch.chdir(tmp_path)
    main([*FIT, f"--trainer.{option}"])
    assert caplog.records[-1].getMessage() == NOTHING
    assert not list(Path().glob("runs/*"))
    main(FIT)
    main([*FIT, f"--trainer.{option}"])
    main([*FIT, "--trainer.max_epochs=3", "--ckpt_path=last"])
    assert Checkpoint.read("runs/regression").content["epoch"] == 3


def test_a_finished_run_that_is_resumed_says_that_nothing_was_left_to_train(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    main(FIT)
    assert caplog.records[-1].getMessage().startswith("Done; best ")
    main([*FIT, "--ckpt_path=last"])
    assert caplog.records[-1].getMessage().startswith("Nothing was left to train, as the run is at its end; ")
    assert caplog.records[-1].getMessage().endswith("; resume it: --ckpt_path last.")
    main([*FIT, "--trainer.max_epochs=3", "--ckpt_path=last"])
    assert caplog.records[-1].getMessage().startswith("Done; best ")


def test_an_interrupt_of_any_command_is_said(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lit_dcem.cli.main._evaluate", interrupt)
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate"])
    assert exit_.value.code == 130 and capsys.readouterr().err == "lit-dcem: Stopped.\n"


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("checkpoint", ["last", str(RUN / "checkpoints/last.ckpt")])
def test_fit_goes_on_in_place(fitted, checkpoint, caplog):
    main([*FIT, "--ckpt_path", checkpoint, "--trainer.max_epochs=3"])
    assert caplog.records[-1].getMessage().endswith(f"resume it: --ckpt_path {checkpoint}.")
    assert [path.name for path in (fitted / "runs/regression").iterdir()] == ["version_0"]
    saved = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 15
    assert [row["step"] for row in saved["callbacks"]["History"]["rows"]] == [5, 10, 15]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_moved_run_is_told_where_it_is(fitted, caplog):
    """``--ckpt_path last`` would look for it in ``runs/``."""
    (fitted / "my runs").mkdir()
    (fitted / RUN).rename(fitted / "my runs/version_0")
    moved = "my runs/version_0/checkpoints/last.ckpt"
    main([*FIT, "--ckpt_path", moved, "--trainer.max_epochs=3"])
    said = caplog.records[-1].getMessage()
    assert "--checkpoint 'my runs/version_0/checkpoints/best.ckpt';" in said
    assert said.endswith(f"resume it: --ckpt_path '{moved}'.")


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_what_is_typed_wins_over_the_checkpoint(fitted):
    main([*FIT, "--ckpt_path=last", "--trainer.max_epochs=3", "--model.init_args.solver.init_args.num_elites=7"])
    saved = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["solver"]["init_args"]["num_elites"] == 7


@pytest.mark.parametrize("command", ["validate", "test"])
def test_validate_and_test_print_the_error(fitted, capsys, command):
    capsys.readouterr()
    before = sorted(fitted.rglob("*"))
    main([command, *CONFIG, *SMALL, "--ckpt_path", str(RUN / "checkpoints/best.ckpt")])
    assert f"{command.removesuffix('idate')}/mse" in capsys.readouterr().out
    assert sorted(fitted.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "config", "shipped"),
    [("validate", "regression", "regression_dcem_0"), ("test", "cartpole", "cartpole_d2_0")],
)
def test_shipped_checkpoints_validate_and_test(tmp_path, monkeypatch, capsys, command, config, shipped):
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--trainer.accelerator=cpu"]
    main([command, "--config", config, "--ckpt_path", f"checkpoints/{shipped}.ckpt", *few])
    assert f"{command.removesuffix('idate')}/" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_validation_without_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="validate measures untrained weights"):
        main(["validate", *CONFIG, *SMALL])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit"], "model"),
        (["fit", "--config", "nope.yaml"], "nope.yaml"),
        ([*FIT, "--model.init_args.solver.init_args.num_elite=3"], "num_elite"),
        ([*FIT, "--model.init_args.solver.init_args.num_elites=300"], "at most num_candidates, got 300 and 10."),
        ([*FIT, "--model.init_args.loss_iterations=0"], "at least 1"),
        ([*FIT, "--data.init_args.batch_size=1000"], "got 1000 and 100."),
        ([*FIT, "--data.init_args.batch_size=x"], "batch_size"),
        ([*FIT, "--trainer.max_epoch=1"], "--trainer.max_epoch=1"),
        ([*FIT, "--trainer.accelerator=abacus"], "abacus"),
        ([*FIT, "--model.class_path=Foo"], "Foo"),
        ([*FIT, "--ckpt_path", "last"], "no last.ckpt"),
        ([*FIT, "--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
        (["paint"], "paint"),
        (["figure", "2000"], "2000"),
        (["figure", "1", "--run", "nowhere"], "nowhere"),
        (["figure", "9", "--run", "nowhere"], "nowhere"),
        (["export", "nowhere", "out.ckpt"], "nowhere"),
        (["evaluate"], "either --config with a planner or --checkpoint, got neither."),
        (["evaluate", "--checkpoint", "nowhere"], "nowhere"),
        (["evaluate", "--sede=1"], "--sede=1"),
        (["sweep", "nowhere.yaml"], "nowhere.yaml"),
        (["sweep", "nowhere.yaml", "--jobs=x"], "--jobs"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_damaged_and_foreign_checkpoints_are_refused(fitted, capsys):
    whole = (RUN / "checkpoints/last.ckpt").read_bytes()
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": torch.ones(1)}, "foreign.ckpt")
    for name in ("cut.ckpt", "foreign.ckpt"):
        assert name in refused(capsys, *FIT, "--ckpt_path", name)
        assert name in refused(capsys, "figure", "1", "--run", name)


def test_training_does_not_go_on_from_an_exported_checkpoint(fitted, capsys):
    main(["export", str(RUN), "small.ckpt"])
    assert "small.ckpt" in refused(capsys, *FIT, "--ckpt_path", "small.ckpt")


def test_last_checkpoint_is_the_last_one(fitted):
    assert torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 10


def test_checkpoint_of_another_size_is_refused(fitted, capsys):
    wider = ["--model.init_args.energy.init_args.hidden_dim=9", "--ckpt_path", "last"]
    assert "must have the shapes of the model" in refused(capsys, *FIT, *wider)


def test_messages_of_jsonargparse_become_the_telling_line():
    lines = ['Parser key "a.b":', "Does not validate", "Errors:", "- k is wrong", "- Expected a <class 'NoneType'>"]
    message = "\n  ".join([*lines, "Given value: 3"])
    assert one_sentence(message) == "a.b: k is wrong."
    assert one_sentence("File not found") == "File not found."


@pytest.mark.slow
def test_two_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "lit_dcem.cli.main", *FIT, "--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    states = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["RandomStates"]["ranks"]
    assert len(states) == 2


def test_bounds_as_a_list_in_a_config_are_kept_in_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init_args = "{num_candidates: 6, num_elites: 2, num_iterations: 2, lower: [-1.0], upper: [2.0]}"
    solver = f"{{class_path: lit_dcem.DCEM, init_args: {init_args}}}"
    Path("own.yaml").write_text(f"model: {{class_path: lit_dcem.EnergyRegression, init_args: {{solver: {solver}}}}}")
    main(["fit", *CONFIG, "--config=own.yaml", *SMALL, "--trainer.max_epochs=1"])
    content = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    kept = content["hyper_parameters"]["solver"]["init_args"]
    assert (kept["lower"], kept["upper"]) == ([-1.0], [2.0])
    assert Checkpoint.read(RUN / "checkpoints/last.ckpt").module().solver.options["upper"] == [2.0]


def test_a_planner_may_weigh_candidates_as_mppi_does(tmp_path, monkeypatch):
    """Weights and noise of `Minimizer` typed over a shipped config."""
    monkeypatch.chdir(tmp_path)
    planner = "--model.planner.solver"
    softmax = [f"{planner}=lit_dcem.Minimizer", f"{planner}.weighting=lit_dcem.solvers.weights.Softmax"]
    softmax += [f"{planner}.weighting.temperature=0.1", f"{planner}.num_candidates=20"]
    noise = f"{planner}.noise"
    spline = [f"{noise}=lit_dcem.solvers.noise.Spline", f"{noise}.num_knots=3", f"{noise}.horizon=9"]
    main(
        [
            "fit",
            "--config=swingup_phase1",
            "--config=debug",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            *softmax,
            *spline,
        ]
    )
    planner = Checkpoint.read("runs/swingup_phase1").module().planner
    options = planner.solver.options
    assert options["weighting"] == Softmax(0.1) and options["noise"] == Spline(3, planner.horizon)
