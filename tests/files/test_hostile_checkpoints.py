"""Whatever a checkpoint names: reading it imports nothing that is not ours, torch's, Lightning's or trusted."""

import sys
from functools import partial, reduce
from pathlib import Path

import pytest
import torch

from lit_dcem import PlanetPhase2
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped
from lit_dcem.planet.data.environment_data import EnvironmentData, same_task
from lit_dcem.planet.data.rollouts import Rollouts
from lit_dcem.planet.phases.phase2 import STARTS
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.start import start_from

EVIL = """
import pathlib
from lit_dcem import PlanetPhase1, Rollouts
pathlib.Path(__file__).with_name("ran").touch()
def run(*_, **__): pathlib.Path(__file__).with_name("ran").touch()
class Evil(PlanetPhase1): pass
class Data(Rollouts): pass
"""
TOUCH = {"command": "touch ran", "args": ["touch", "ran"], "source": "open('ran', 'w')", "repo_or_dir": "evil"}
CLASSES = [
    "evil.Evil",
    "evil.run",
    "evil.sub.Thing",
    "os.system",
    "posix.system",
    "subprocess.Popen",
    "subprocess.run",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "importlib.import_module",
    "runpy.run_path",
    "functools.partial",
    "pickle.loads",
    "antigravity.webbrowser",
    "torch.hub.load",
    "torch.load",
    "torch.jit.ScriptModule",
    "torch.utils.cpp_extension.load",
    "torch.nn.functional.importlib.import_module",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.cli.LightningCLI",
    "lit_dcem.cli.sweep.sweep",
    "lit_dcem.cli.main.main",
    "lit_dcem.cli.train.TrainingCLI",
    "lit_dcem.files.trust.os.system",
    "lit_dcem.cli.sweep.running.subprocess.Popen",
    "lit_dcem.training.checkpoint.torch.hub.load",
]
SPEC = {"class_path": "evil.Evil"}
NESTED = {
    "a class path alone": {"solver": "evil.Evil"},
    "a class instead of a number": {
        "solver": {"class_path": "lit_dcem.DCEM", "init_args": {"temperature": "evil.Evil"}}
    },
    "deep": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": SPEC}}},
    "a class in a list": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"betas": [0.9, SPEC]}}},
    "a path in a list": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"betas": ["evil.Evil", 0.9]}}},
    "dict_kwargs": {"energy": {"class_path": "lit_dcem.EnergyNetwork", "dict_kwargs": {"hidden_dim": SPEC}}},
    "a function for an optimizer": {"optimizer": "evil.run"},
    "a class for an optimizer": {"optimizer": {"class_path": "evil.Evil"}},
    "a function for a scheduler": {"lr_scheduler": "evil.run"},
    "an unknown option": {"more": SPEC},
    "an unknown option as text": {"more": "evil.Evil"},
    "YAML": {"solver": "{class_path: evil.Evil}"},
    "YAML with an escape": {"solver": '{"\\x63lass_path": "evil.Evil"}'},
    "YAML with an escaped path": {"solver": '{"class_path": "\\x65vil.Evil"}'},
    "YAML with a date that is none": {"solver": "{class_path: evil.Evil, init_args: {x: 2001-99-99}}"},
    "YAML that merges": {"solver": "{<<: {class_path: evil.Evil}}"},
    "YAML in YAML": {"more": "['{class_path: evil.Evil}']"},
    "YAML file": {"solver": "evil.yaml"},
    "a name with a dot": {"solver.class_path": "evil.Evil"},
    "a longer name with a dot": {"solver.init_args.temperature": "evil.Evil"},
    "a name with a plus": {"optimizer": {"class_path+": "evil.Evil"}},
    "a name of jsonargparse": {"solver": {"__path__": "evil.yaml", "class_path": "lit_dcem.DCEM"}},
    "a text of great length": {"solver": "evil.Evil " * 2000},
    "many levels": {"solver": reduce(lambda inner, _: [inner], range(50), "evil.Evil")},
    "a class path that is a list": {"solver": {"class_path": ["evil.Evil"]}},
    "a type expression": {"more": "list[evil.Evil] | int"},
}
DATA = {
    "its class": {"_class_path": "evil.Data"},
    "no datamodule": {"_class_path": "lit_dcem.PlanetPhase1"},
    "an environment": {"env": "evil:Thing-v0"},
    "an environment of a submodule": {"env": "evil.sub:Thing-v0"},
    "a class for an environment": {"env": SPEC},
    "a class for a number": {"num_envs": SPEC},
    "a path for a number": {"num_envs": "evil.Evil"},
    "YAML for a number": {"num_envs": "{class_path: evil.Evil}"},
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a module that says when it is imported; ends with the check that it was not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(tmp_path)
    Path("evil.py").write_text(EVIL)
    Path("evil.yaml").write_text("class_path: evil.Evil\n")
    before = set(sys.modules)
    yield tmp_path
    assert not Path("ran").exists()
    new = set(sys.modules) - before
    assert not {name.partition(".")[0] for name in new} & {"evil", "runpy", "antigravity", "this"}
    assert not {"torch.utils.cpp_extension"} & new


@pytest.fixture(scope="module")
def later_phase():
    model = Checkpoint.read(shipped("checkpoints") / "swingup_phase2_1.ckpt").module()
    assert isinstance(model, PlanetPhase2)
    return model


def changed(name="regression_gd_0", part="hyper_parameters", **options):
    """A shipped checkpoint with another config."""
    content = torch.load(shipped("checkpoints") / f"{name}.ckpt", weights_only=True)
    content[part].update(options)
    torch.save(content, "hostile.ckpt")
    return "hostile.ckpt"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.strip().splitlines()[-1].startswith("lit-dcem: ")


@pytest.mark.parametrize("path", CLASSES)
def test_no_module_of_another(path):
    with pytest.raises(UsageError, match=r"^A checkpoint .*, got .*\.$"):
        Checkpoint.read(changed(_class_path=path, **TOUCH)).module()


@pytest.mark.parametrize("path", CLASSES)
def test_no_part_of_another(path):
    with pytest.raises(UsageError, match=r"^A checkpoint .*, got .*\.$"):
        Checkpoint.read(changed(solver={"class_path": path, "init_args": TOUCH})).module()


@pytest.mark.parametrize("options", NESTED.values(), ids=NESTED)
def test_nothing_hidden_in_the_config(options):
    with pytest.raises(UsageError) as error:
        Checkpoint.read(changed(**options)).module()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize("spec", [SPEC, {"class_path": "os.system", "init_args": TOUCH}])
@pytest.mark.parametrize("option", ["decoder_options", "seed_planner", "loss"])
def test_nothing_among_values_of_any_type(option, spec):
    for value in (spec, {"lr": spec}, {"lr": [spec]}):
        with pytest.raises(UsageError):
            Checkpoint.read(changed("swingup_phase2_1", **{option: value})).module()


@pytest.mark.parametrize("options", DATA.values(), ids=DATA)
def test_nothing_hidden_in_the_data(options):
    path = changed("swingup_phase1_1", "datamodule_hyper_parameters", **options)
    with pytest.raises(UsageError) as error:
        Checkpoint.read(path).data(EnvironmentData).make_envs(1, 0)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize("path", CLASSES)
def test_no_start_from_another(path, later_phase):
    path = changed("swingup_phase1_1", _class_path=path, **TOUCH)
    with pytest.raises(UsageError, match=r", got .*\.$"):
        start_from(path, later_phase, STARTS, partial(same_task, vars(Rollouts("cartpole-swingup", action_repeat=8))))


def test_commands_say_it_in_one_sentence(capsys):
    changed(_class_path="evil.Evil")
    refused(capsys, "evaluate", "--checkpoint", "hostile.ckpt")
    refused(capsys, "figure", "5", "--run", "hostile.ckpt")
    changed("cartpole_d2_0", solver={"class_path": "os.system", "init_args": TOUCH})
    refused(capsys, "evaluate", "--checkpoint", "hostile.ckpt")
    refused(capsys, "figure", "2", "--run", "hostile.ckpt")
    changed("swingup_phase1_1", "datamodule_hyper_parameters", env="evil:Thing-v0")
    refused(capsys, "evaluate", "--checkpoint", "hostile.ckpt", "--episodes=1")


def test_export_copies_without_building():
    main(["export", changed(_class_path="evil.Evil"), "copy.ckpt"])
    assert Path("copy.ckpt").is_file()


@pytest.mark.parametrize("options", NESTED.values(), ids=NESTED)
def test_nothing_hidden_where_options_are_laid_over_a_planner(capsys, options):
    changed("cartpole_d2_0", **options)
    refused(capsys, "evaluate", "--checkpoint=hostile.ckpt", "--planner.initial_std=0.4", "--seeds=1")


@pytest.mark.parametrize(
    "planner",
    [
        *({"class_path": path, "init_args": TOUCH} for path in CLASSES[:4]),
        *("evil.Evil", "evil.yaml", "{class_path: evil.Evil}", None, [SPEC]),
        *(
            {"class_path": "lit_dcem.CEMPlanner", **options}
            for options in ({"init_args": "evil.yaml"}, {"solver": SPEC})
        ),
        *(
            {"class_path": "lit_dcem.CEMPlanner", "init_args": {"solver": {"class_path": "lit_dcem.DCEM"}, **options}}
            for options in ({"known_reward": "evil.run"}, {"value": SPEC}, {"horizon": "evil.Evil"})
        ),
    ],
    ids=str,
)
def test_no_planner_of_another_is_changed(capsys, planner):
    changed("swingup_phase1_1", planner=planner)
    refused(capsys, "evaluate", "--checkpoint=hostile.ckpt", "--planner.initial_std=0.4", "--episodes=1")


def test_a_text_does_not_become_an_option_of_a_class_that_is_typed_instead(capsys):
    """A text is never imported, whatever it says; an option of the same name in another class might be."""
    Path("own_solver.py").write_text(
        "from collections.abc import Callable\nfrom lit_dcem import DCEM\n"
        "class Named(DCEM):\n    def __init__(self, label: str = ''): super().__init__()\n"
        "class Own(DCEM):\n    def __init__(self, label: Callable | None = None): super().__init__()\n"
    )
    changed("cartpole_d2_0", solver={"class_path": "own_solver.Named", "init_args": {"label": "evil.run"}})
    whole = (
        '--planner={"solver": {"class_path": "own_solver.Own"}}',
        '--planner={"solver.class_path": "own_solver.Own"}',
    )
    for typed in ("--planner.solver=own_solver.Own", "--planner.solver.class_path=own_solver.Own", *whole):
        main(["evaluate", "--checkpoint=hostile.ckpt", typed, "--seeds=1", "--trust=own_solver"])
        assert "solver Own (was Named)" in capsys.readouterr().out


def test_a_changed_planner_is_no_larger_than_its_checkpoint(capsys):
    content = torch.load(shipped("checkpoints") / "cartpole_d2_0.ckpt", weights_only=True)
    content["hyper_parameters"]["decoder"]["init_args"]["hidden_dim"] = 10**6
    torch.save(content, "hostile.ckpt")
    with pytest.raises(SystemExit):
        main(["evaluate", "--checkpoint=hostile.ckpt", "--planner.initial_std=0.4", "--seeds=1"])
    assert "must fit the size of its weights, got larger parts." in capsys.readouterr().err
