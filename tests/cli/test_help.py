"""``lit-dcem COMMAND --help`` names what the command takes, in whatever folder, and does nothing else."""

import pytest

from lit_dcem.cli.main import main

TRAINER = [
    "--config",
    "--model",
    "--data",
    "--trainer.max_epochs",
    "--seed_everything",
    "--ckpt_path",
    "--print_config",
]
OPTIONS = {
    "fit": TRAINER,
    "validate": TRAINER[:-1],
    "test": TRAINER[:-1],
    "evaluate": ["--config", "--checkpoint", "--planner", "--out", "--episodes", "--video", "--points"],
    "figure": ["number", "--run", "--out"],
    "reproduce": ["number", "--quick", "--out", "--jobs"],
    "sweep": ["file", "--out", "--backend", "--jobs", "--budget"],
    "export": ["checkpoint", "out"],
    "cards": ["folder"],
}


def helped(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--help"])
    assert not exit_.value.code
    return capsys.readouterr().out


def test_the_help_has_every_command(capsys):
    listed = helped(capsys).partition("COMMAND\n")[2].partition("\noptions:")[0]
    assert [line.split()[0] for line in listed.splitlines() if line[4:5].strip()] == [*OPTIONS]


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_of_a_command_names_its_options(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = helped(capsys, command).replace(",", " ").split()
    assert words[0] == "usage:" and not [option for option in OPTIONS[command] if option not in words]
    assert not list(tmp_path.iterdir())
