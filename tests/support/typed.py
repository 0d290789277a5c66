"""Parses what the documentation tells a reader to type, with the real parsers and checks, and runs nothing."""

import re
import sys
from dataclasses import replace
from pathlib import Path

from support.documents import ROOT
from support.phases import STARTS

from lit_dcem.cli import evaluate, train
from lit_dcem.cli import main as commands
from lit_dcem.cli.figure import ALL, registered
from lit_dcem.files.shipped import find_shipped

RUNS = {
    "runs/cartpole": "cartpole_d2_0",
    "runs/regression": "regression_dcem_0",
    "runs/phase1": "cheetah_phase1_fast_0",
    "runs/phase2": "cheetah_phase2_fast_0",
}
"""shipped checkpoints that stand for runs, by the beginning of their folder"""
RUN = rf"(?<![\w/])({'|'.join(RUNS)})\b[\w/.]*"
PROGRAMS = {
    ".",
    "docker",
    "git",
    "pip",
    "pre-commit",
    "pyright",
    "pytest",
    "python3",
    "ruff",
    "sphinx-build",
    "tensorboard",
}
"""that are not ours, and that a reader may be told to type"""
TRAINING = (["lit-dcem", "fit"], ["lit-dcem", "validate"], ["lit-dcem", "test"])


class Understood(BaseException):
    """A command was parsed, and would begin to work now."""


def prepare(monkeypatch):
    """Let commands end where their work would begin, until the test ends."""
    monkeypatch.setattr(train.TrainingCLI, "before_instantiate_classes", stop)
    monkeypatch.setattr(train.TrainingCLI, "subcommands", staticmethod(only_that_of(train.TrainingCLI.subcommands())))
    monkeypatch.setattr(commands, "_run", check_options)
    measuring = tuple(replace(each, measure=stop) for each in evaluate.EVALUATORS)
    monkeypatch.setattr(evaluate, "EVALUATORS", measuring)


def only_that_of(known):
    """The subcommand that is typed: the parser of each takes a tenth of a second."""
    return lambda: {name: skip for name, skip in known.items() if name in sys.argv}


def stop(*_, **__):
    raise Understood


def check_options(options):
    """What the parser of figure, sweep and export cannot know."""
    if options.command == "figure":
        assert options.number == ALL or options.number in registered()
    if options.command == "sweep":
        assert Path(find_shipped(options.file, "configs")).is_file()
    raise Understood


def check_command(words):
    """Raise an AssertionError if a command would be refused."""
    program, *arguments = words
    if program == "lit-dcem":
        check_ours(arguments)
    elif program == "python":
        check_script(arguments)
    else:
        assert program in PROGRAMS, words
        extras = {extra for word in arguments for extra in re.findall(r"\[(\w+)\]", word)}
        assert all(f"{extra} = [" in (ROOT / "pyproject.toml").read_text() for extra in extras), words


def check_ours(arguments):
    try:
        commands.main(with_shipped(arguments))
    except Understood:
        return
    except SystemExit as refused:
        if not refused.code:  # --help, --version
            return
        raise AssertionError(f"refused: lit-dcem {' '.join(arguments)}") from refused


def with_shipped(arguments):
    """The arguments with shipped checkpoints in place of runs, which are not there."""
    words = [re.sub(r"^(--\w+=)?(configs|checkpoints)/", rf"\1{ROOT}/\2/", word) for word in arguments]
    words = [re.sub(RUN, lambda found: RUNS[found[1]], str(word)) for word in words]
    later = [STARTS[name] for name in map(config_name, words) if name in STARTS]
    if arguments[0] == "fit" and later and not any("--model.start" in word for word in arguments):
        words += ["--model.start", later[0]]
    return words


def config_name(word):
    return Path(word.removeprefix("--config=")).stem


def check_script(arguments):
    """A program of ours exists and knows its options."""
    if arguments[0].startswith("-"):
        return
    script = ROOT / arguments[0]
    text = script.read_text() + "".join(path.read_text() for path in script.parent.glob("options.py"))
    assert all(f'"{word}"' in text for word in arguments if word.startswith("--")), arguments


def few(found):
    """The same commands as fewer ones, because parsing one that trains takes a second.

    Options of training commands with the same configs are put together where none has two values, and nothing is left
    of a command without options: `tests/cli/test_configs.py` builds every config. ``--ckpt_path`` is left out.
    """
    others = {tuple(words) for words in found if words[:2] not in TRAINING}
    groups = {}
    for words in (words for words in found if words[:2] in TRAINING):
        options = pairs(words[2:])
        configs = tuple(value for name, value in options if name == "--config")
        assert all(Path(find_shipped(config, "configs")).is_file() for config in configs), words
        rest = {name: value for name, value in options if name not in ("--config", "--ckpt_path")}
        if rest:
            add(groups.setdefault((*words[:2], configs), []), rest)
    for (*command, configs), options in groups.items():
        start = [*command, *(f"--config={config}" for config in configs)]
        others |= {(*start, *(f"{name}={value}" for name, value in each.items())) for each in options}
    return sorted(others)


def pairs(words):
    """Names and values of options, from ``--name value`` and ``--name=value``."""
    joined = " ".join(words)
    return [tuple(re.split("[= ]", option, maxsplit=1)) for option in re.split(r"(?:^| )(?=--)", joined) if option]


def add(groups, options):
    """Put options into the first group that they do not contradict."""
    for group in groups:
        if not any(clash(name, other) for name in options for other in group):
            group |= options
            return
    groups.append(dict(options))


def clash(name, other):
    """Whether two options are the same, or one is a part of the other."""
    first, second = sorted((name, other), key=len)
    return second == first or second.startswith(f"{first}.")
