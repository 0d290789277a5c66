"""People's own classes train, resume, evaluate, draw and start later phases; whose they are is for the user to say."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from lit_dcem import EnergyRegression, PlanetPhase1, PlanetPhase2
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped
from lit_dcem.files.trust import VARIABLE, can_import, checked, is_remembered, reader, remember, trusting
from lit_dcem.planet.data.environment_data import EnvironmentData, same_task
from lit_dcem.planet.data.rollouts import Rollouts
from lit_dcem.planet.phases.phase2 import STARTS
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.start import start_from

FAST = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
MINE = """
import torch
from lit_dcem import CEMPlanner, EnergyRegression, PlanetPhase1, Rollouts
class Regression(EnergyRegression): pass
class Phase1(PlanetPhase1): pass
class Data(Rollouts): pass
class Planner(CEMPlanner): pass
class Network(torch.nn.Module):
    def __init__(self, activation=torch.relu): super().__init__()
def start(*_, **__): raise RuntimeError
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a module of the user's own, which is forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(MINE)
    yield tmp_path
    forget()


def forget():
    """As a new process begins."""
    sys.modules.pop("mine", None)


def changed(name="regression_gd_0", part="hyper_parameters", **options):
    content = torch.load(shipped("checkpoints") / f"{name}.ckpt", weights_only=True)
    content[part].update(options)
    torch.save(content, f"{name}.ckpt")
    return f"{name}.ckpt"


def test_what_to_type_is_said_and_works():
    path = changed(_class_path="mine.Regression")
    with pytest.raises(
        UsageError, match=r"got mine\.Regression in .*: if you know its code, add --trust mine, or trust"
    ):
        Checkpoint.read(path).module()
    assert not is_imported()
    module = Checkpoint.read(path, trust=("mine",)).module()
    assert isinstance(module, EnergyRegression) and type(module).__name__ == "Regression"


def is_imported():
    return "mine" in sys.modules


def test_what_is_imported_already_is_trusted_if_experiments_are_made_of_it():
    import mine  # pyright: ignore[reportMissingImports]

    assert isinstance(Checkpoint.read(changed(_class_path="mine.Regression")).module(), mine.Regression)
    for path in ("mine.start", "mine.torch.hub.load", "os.system"):
        with pytest.raises(UsageError, match=f"got {path}"):
            Checkpoint.read(changed(_class_path=path)).module()


def test_parts_and_data_of_ones_own():
    spec = torch.load(shipped("checkpoints") / "swingup_phase1_1.ckpt", weights_only=True)["hyper_parameters"][
        "planner"
    ]
    spec["class_path"] = "mine.Planner"
    path = changed("swingup_phase1_1", planner=spec)
    module = Checkpoint.read(path, trust="mine").module()
    assert isinstance(module, PlanetPhase1) and type(module.planner).__name__ == "Planner"
    path = changed("swingup_phase1_1", "datamodule_hyper_parameters", _class_path="mine.Data")
    assert type(Checkpoint.read(path, trust=["mine"]).data(EnvironmentData)).__name__ == "Data"


def test_a_trusted_package_gives_no_other():
    for path in ("mine.torch.hub.load", "mine.torch.jit.ScriptModule", "os.system"):
        with pytest.raises(UsageError, match=f"got {path}"):
            Checkpoint.read(changed(_class_path=path), trust=("mine",)).module()


def test_a_later_phase_starts_from_a_subclass():
    later = Checkpoint.read(shipped("checkpoints") / "swingup_phase2_1.ckpt").module()
    assert isinstance(later, PlanetPhase2)
    rollouts, path = (
        Rollouts("cartpole-swingup", action_repeat=8),
        changed("swingup_phase1_1", _class_path="mine.Phase1"),
    )
    with pytest.raises(UsageError, match="add --trust mine"):
        start_from(path, later, STARTS, partial(same_task, vars(rollouts)))
    start_from(path, later, STARTS, partial(same_task, vars(rollouts)), trust=("mine",))
    weights = torch.load(path, weights_only=True)["state_dict"]
    for name, value in later.world_model.state_dict().items():
        assert torch.equal(value, weights[f"world_model.{name}"])
    with pytest.raises(
        UsageError,
        match="starts from a checkpoint of PlanetPhase1 or PlanetPhase2 or PlanetJoint, got one of Regression",
    ):
        start_from(
            changed(_class_path="mine.Regression"), later, STARTS, partial(same_task, vars(rollouts)), trust=("mine",)
        )


@pytest.mark.parametrize("name", ["os", "builtins", "subprocess.run", "", "a b", "../mine"])
def test_only_packages_of_ones_own_can_be_trusted(name):
    with pytest.raises(UsageError, match=r"^--trust must name a package of your own, got .*\.$"):
        checked([name])


def test_processes_of_a_command_trust_what_it_does(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with trusting(["mine", "other.part"]):
        code = "from lit_dcem.files.trust import reader; print(*reader('').packages)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["mine", "other.part"]
    by = reader("", ["mine", "other.part"])
    assert by.trusts("mine.deep.er") and by.trusts("other.part") and not by.trusts("other") and not by.trusts("mines")
    assert not os.environ[VARIABLE]


def test_packages_of_the_users_configs_are_remembered_by_their_files(tmp_path, monkeypatch):
    remember(
        {"class_path": "mine.Regression", "init_args": {"x": [{"class_path": "lit_dcem.DCEM"}], "env": "own_env:A-v0"}}
    )
    assert is_remembered("mine") and not is_remembered("lit_dcem") and not is_remembered("own_env")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text("raise SystemExit('another file of that name')\n")
    monkeypatch.syspath_prepend(other)
    assert not is_remembered("mine")
    assert can_import("mine") and not can_import("nowhere_to_be_found")
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")  # cannot be written
    remember({"class_path": "mine.Regression"})
    assert not is_remembered("mine")


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_module_of_ones_own_trains_resumes_validates_and_is_drawn(capsys):
    text = (shipped("configs") / "regression_gd.yaml").read_text()
    Path("own.yaml").write_text(text.replace("lit_dcem.EnergyRegression", "mine.Regression"))
    fit = ["fit", "--config=own.yaml", "--config=debug", *FAST]
    main(fit)
    (run,) = Path("runs").glob("*/version_0")
    main([*fit, "--ckpt_path=last", "--trainer.max_epochs=3"])
    main(["validate", *fit[1:], f"--ckpt_path={run}/checkpoints/last.ckpt"])
    assert "val/mse" in capsys.readouterr().out
    forget()
    main(["figure", "1", "--run", str(run)])  # the user's own config has named it
    assert Path("figure1.png").is_file()
    forget()
    Path("state/lit-dcem/trusted").unlink()
    with pytest.raises(SystemExit):
        main(["figure", "1", "--run", str(run)])
    assert "add --trust mine" in capsys.readouterr().err and not is_imported()
    main(["figure", "1", "--run", str(run), "--trust", "mine"])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    "part", ["hyper_parameters", pytest.param("datamodule_hyper_parameters", marks=pytest.mark.slow)]
)
def test_resuming_and_validating_import_nothing_of_the_checkpoint(part, capsys):
    """At ``--ckpt_path`` the config wins; to resume as something else is refused, by name alone."""
    fit = ["fit", "--config=regression_gd", "--config=debug", *FAST]
    main(fit)
    (last,) = Path("runs").glob("*/version_0/checkpoints/last.ckpt")
    content = torch.load(last, weights_only=True)
    content[part] = {"_class_path": "mine.Data", "_instantiator": "mine.start", "solver": {"class_path": "mine.start"}}
    torch.save(content, last)
    main(["validate", *fit[1:], f"--ckpt_path={last}"])
    assert "val/mse" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*fit, "--ckpt_path=last", "--trainer.max_epochs=3"])
    assert "that it began with, mine.Data, got" in capsys.readouterr().err and not is_imported()


@pytest.mark.slow
def test_a_planet_of_ones_own_is_evaluated_and_starts_the_next_phase(capsys):
    configs = shipped("configs")
    for name, ours, own in (("swingup_phase1", "PlanetPhase1", "Phase1"), ("swingup_phase2", "Rollouts", "Data")):
        text = (configs / f"{name}.yaml").read_text()
        Path(f"{name}.yaml").write_text(text.replace(f"lit_dcem.{ours}", f"mine.{own}"))
    small = ["--config=debug", *FAST]
    main(["fit", "--config=swingup_phase1.yaml", *small])
    forget()
    main(["evaluate", "--checkpoint=runs/swingup_phase1/version_0", "--episodes=1"])
    assert "Phase1" in capsys.readouterr().out
    forget()
    start = "--model.init_args.start=runs/swingup_phase1/version_0/checkpoints/last.ckpt"
    main(["fit", "--config=swingup_phase2.yaml", *small, start])
    forget()
    main(["figure", "14", "--run", "runs/swingup_phase2/version_0"])
    assert Path("figure14.png").is_file()
