"""Names of shipped files, the packages to trust, and the small things of the command line."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure

import lit_dcem
from lit_dcem.cli.arguments import find_configs, take_trust
from lit_dcem.cli.main import main
from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.files.shipped import PACKAGE, find_shipped, shipped
from lit_dcem.training.figure_source import Source, find_paths

CONFIGS, CHECKPOINTS = shipped("configs"), shipped("checkpoints")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["cartpole", "cartpole.yaml", "configs/cartpole", "configs/cartpole.yaml"])
def test_a_shipped_config_is_found_by_its_name(name):
    assert find_shipped(name, "configs") == str(CONFIGS / "cartpole.yaml")


@pytest.mark.parametrize("end", ["", ".ckpt"])
@pytest.mark.parametrize("folder", ["", "checkpoints/"])
def test_a_shipped_checkpoint_is_found_by_its_name(folder, end):
    assert find_shipped(f"{folder}cartpole_d2_0{end}", "checkpoints") == str(CHECKPOINTS / "cartpole_d2_0.ckpt")


def test_names_with_dots_and_other_files():
    assert find_shipped("cartpole_d2_tau0.1_0", "checkpoints").endswith("cartpole_d2_tau0.1_0.ckpt")
    assert find_shipped("checkpoints/cartpole_pca.pt", "checkpoints") == str(CHECKPOINTS / "cartpole_pca.pt")


@pytest.mark.parametrize("name", ["cartpole.yaml", "configs/cartpole.yaml", "cartpole"])
def test_a_file_of_the_user_comes_first(name):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    assert find_shipped(name, "configs") == name


def test_a_run_folder_of_the_user_comes_first_and_a_folder_is_no_config():
    Path("cartpole_d2_0").mkdir()
    assert find_shipped("cartpole_d2_0", "checkpoints") == "cartpole_d2_0"
    Path("cartpole").mkdir()
    assert find_shipped("cartpole", "configs") == str(CONFIGS / "cartpole.yaml")


@pytest.mark.parametrize(
    "name",
    ["nope", "", ".", "..", "other/cartpole.yaml", "/cartpole.yaml", "../configs/cartpole.yaml", "x" * 5000, "nul\0"],
)
def test_other_names_stay_as_they_are(name):
    assert find_shipped(name, "configs") == name


def test_every_option_that_takes_a_config_is_looked_up():
    config = str(CONFIGS / "debug.yaml")
    assert find_configs(["fit", "--config", "debug", "-c", "debug.yaml", "--config=debug", "--ckpt_path=last"]) == [
        *("fit", "--config", config, "-c", config, f"--config={config}", "--ckpt_path=last")
    ]
    assert find_configs(["evaluate", "--checkpoint", "debug", "debug", "--expert=debug", "--expert", "debug"]) == [
        *("evaluate", "--checkpoint", "debug", "debug", f"--expert={config}", "--expert", config)
    ]


def test_runs_of_figures_are_found_by_the_names_of_shipped_files():
    source = Source(lambda number, paths: Figure(), Path)
    names = ["checkpoints/sweep_cartpole.csv", "nope", "swingup_phase1_1_returns.json"]
    assert find_paths("8", source, names) == [
        *(CHECKPOINTS / "sweep_cartpole.csv", Path("nope"), CHECKPOINTS / "swingup_phase1_1_returns.json")
    ]


def test_commands_find_shipped_files_from_any_folder(capsys):
    main(["export", "cartpole_d2_0", "copy.ckpt"])
    assert (
        read_checkpoint("copy.ckpt")["global_step"]
        == read_checkpoint(CHECKPOINTS / "cartpole_d2_0.ckpt")["global_step"]
    )
    for arguments in (["fit", "--config", "regression"], ["evaluate", "--config=cartpole_expert"]):
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--nope"])
        assert exit_.value.code == 2
        assert "--nope" in capsys.readouterr().err  # and not the config


def test_packages_to_trust_are_taken_out():
    typed = ["evaluate", "--trust", "mine,yours", "--seed=1", "--trust=other.part"]
    assert take_trust(typed) == (["mine", "yours", "other.part"], ["evaluate", "--seed=1"])


@pytest.mark.parametrize("end", [["--trust"], ["--trust="], ["--trust", "--seed"]])
def test_trust_needs_a_name(end):
    with pytest.raises(UsageError, match=r"^--trust must be followed by the name of a package, got .*\.$"):
        take_trust(["evaluate", *end])


def test_the_version_is_the_one_that_is_installed(capsys):
    assert lit_dcem.__version__ == importlib.metadata.version("lit-dcem")
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"lit-dcem {lit_dcem.__version__}\n"


def test_the_package_is_a_command_and_typed():
    done = subprocess.run([sys.executable, "-m", "lit_dcem", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: lit-dcem") and "--trust" in done.stdout
    assert (PACKAGE / "py.typed").is_file()


def test_help_and_version_import_nothing_heavy():
    code = "import sys, lit_dcem.cli.main as c\ntry: c.main([sys.argv[1]])\nexcept SystemExit: print(*sys.modules)"
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        assert not {"torch", "numpy", "yaml", "pytorch_lightning"} & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("safe", [False, True])
def test_modules_of_the_current_folder_are_found_unless_python_shall_not(safe):
    """As the installed command, whose path begins with the folder of its script."""
    Path("my_module.py").write_text("name = 'mine'\n")
    Path("json.py").write_text("raise SystemExit('a file here took the place of another module')\n")
    code = (
        "import sys; sys.path[:1] = ['/', *filter(None, sys.path[:1])]; import lit_dcem.cli.main as c\n"
        "try: c.main(['--help'])\nexcept SystemExit: pass\n"
        "import importlib.util, json; print(importlib.util.find_spec('my_module') is not None)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment |= {"PYTHONPATH": str(PACKAGE.parent)} | ({"PYTHONSAFEPATH": "1"} if safe else {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == str(not safe)


@pytest.mark.parametrize(
    "option", ["training_solver.gradient_clip", "init_args.training_solver.init_args.gradient_clip"]
)
def test_null_can_be_typed(option):
    """jsonargparse 4.53 makes the null of an option of a part inside a part a text; the config has 0.004 here."""
    main(["fit", "--config=cartpole_dcem", "--config=debug", "--trainer.accelerator=cpu", f"--model.{option}=null"])
    config = yaml.safe_load(Path("runs/cartpole_dcem/version_0/config.yaml").read_text())
    assert config["model"]["init_args"]["training_solver"]["init_args"]["gradient_clip"] is None
