"""The command ``lit-dcem``. Heavy modules are imported only by the command that needs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lit_dcem.cli.arguments import find_configs, take_trust
from lit_dcem.errors import StoppedError, UsageError
from lit_dcem.files import trust
from lit_dcem.files.shipped import find_shipped
from lit_dcem.training.messages import one_sentence

DESCRIPTION = "The differentiable cross-entropy method, and the experiments of its paper, in PyTorch Lightning."
TRAINER_COMMANDS = {
    "fit": "train: --config FILE, any --trainer.*, --model.*, --data.* option, --ckpt_path FILE or last to resume",
    "validate": "validate a checkpoint: --config FILE --ckpt_path FILE",
    "test": "test a checkpoint on data never trained on: --config FILE --ckpt_path FILE",
}
TRUST = """Files that we ship are found by name from any folder: --config cartpole, --checkpoint cartpole_best_0.
Every command takes --trust PACKAGE[,PACKAGE]: your own packages whose classes a checkpoint may name."""
EVALUATE = "measure what a checkpoint has learned, or a planner: --checkpoint FILE or --config FILE"


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, and takes no abbreviations."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(one_sentence(message))


class Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from lit_dcem import __version__

        print(f"lit-dcem {__version__}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a mistake in it is one sentence and exit code 2."""
    try:
        packages, typed = take_trust(sys.argv[1:] if arguments is None else arguments)
        _look_here()
        with trust.trusting(packages):
            _dispatch(find_configs(typed))
    except UsageError as error:
        print(f"lit-dcem: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except StoppedError as stop:
        print(f"lit-dcem: {stop}", file=sys.stderr)
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt as stop:
        print(f"lit-dcem: {str(stop) or 'Stopped.'}", file=sys.stderr)
        raise SystemExit(130) from None


def _look_here() -> None:
    """Let modules of the current folder be imported, as ``python -m`` does; last in the path, to hide no other."""
    if not (getattr(sys.flags, "safe_path", False) or os.environ.get("PYTHONSAFEPATH")):
        here = str(Path.cwd())
        if not {"", here} & set(sys.path):
            sys.path.append(here)


def _dispatch(arguments: list[str]) -> None:
    if arguments and arguments[0] in TRAINER_COMMANDS:
        _train(arguments)
    elif arguments and arguments[0] == "evaluate":
        _evaluate(arguments[1:])
    else:
        _run(_parser().parse_args(arguments))


def _train(arguments: list[str]) -> None:
    from lit_dcem.cli.train import run

    run(arguments)


def _evaluate(arguments: list[str]) -> None:
    from lit_dcem.cli.evaluate import run

    run(arguments)


def _run(options: argparse.Namespace) -> None:
    if options.command == "figure":
        _figure(options)
    elif options.command == "export":
        from lit_dcem.training.checkpoint import Checkpoint

        Checkpoint.read(options.checkpoint).export(options.out)
        print(options.out)
    elif options.command == "cards":
        from lit_dcem.cli.cards import cards

        print(cards(options.folder), end="")
    elif options.command == "reproduce":
        _reproduce(options)
    elif options.command == "sweep":
        from lit_dcem.cli.sweep import sweep

        print(sweep(find_shipped(options.file, "configs"), options.out, options.backend, options.jobs, options.budget))


def _figure(options: argparse.Namespace) -> None:
    from lit_dcem.cli.figure import ALL, draw, draw_all

    if options.number == ALL:
        draw_all(options.run, options.out)
    else:
        print(draw(options.number, options.run, options.out))


def _reproduce(options: argparse.Namespace) -> None:
    if options.number is None:
        from rich.console import Console

        from lit_dcem.cli.reproduction.document import RECIPES, shown

        Console().print(shown(RECIPES))
    else:
        from lit_dcem.cli.reproduction.running import reproduce

        reproduce(options.number, options.out, options.quick, options.jobs)


def _parser() -> Parser:
    parser = Parser(prog="lit-dcem", description=DESCRIPTION, epilog=TRUST, allow_abbrev=False)
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, text in TRAINER_COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    commands.add_parser("evaluate", help=EVALUATE, add_help=False)
    figure = commands.add_parser("figure", help="draw a figure of the paper", allow_abbrev=False)
    figure.add_argument("number", help="its number in the paper, a name (a wrong one lists them), or all")
    figure.add_argument("--run", nargs="+", metavar="DIR", help="run folders or files; by default the shipped ones")
    figure.add_argument("--out", metavar="FILE", help="image file to write, figureN.png by default; a folder for all")
    again = commands.add_parser("reproduce", help="train and draw a figure of the paper again", allow_abbrev=False)
    again.add_argument("number", nargs="?", help="its number in the paper, or all; without it: what each takes")
    again.add_argument("--quick", action="store_true", help="at debug size, to see that everything works")
    again.add_argument("--out", metavar="DIR", help="folder of figures and runs, runs/reproduce by default")
    again.add_argument("--jobs", type=int, metavar="N", help="runs at a time; one for each CPU core if none")
    sweep = commands.add_parser("sweep", help="train every point of a grid of options and seeds", allow_abbrev=False)
    sweep.add_argument("file", help="YAML like configs/sweep_cartpole.yaml, or sweep_planet.yaml with several phases")
    sweep.add_argument("--out", metavar="DIR", help="folder of tables and runs; runs/ and the file's name if none")
    sweep.add_argument("--backend", choices=["joblib", "ray"], default="joblib", help="this machine, or a Ray cluster")
    sweep.add_argument("--jobs", type=int, metavar="N", help="runs at a time; one for each CPU core if none")
    sweep.add_argument("--budget", type=float, metavar="MINUTES", help="wall-clock for all that is left to do")
    export = commands.add_parser(
        "export", help="copy a checkpoint without what only training needs", allow_abbrev=False
    )
    export.add_argument("checkpoint", help="run folder, checkpoint, or name of a shipped one")
    export.add_argument("out", help="file to write")
    made = commands.add_parser("cards", help="say where the checkpoints of a folder come from", allow_abbrev=False)
    made.add_argument("folder", help="with *.ckpt files; a cards.yaml in it adds what they do not record")
    return parser


if __name__ == "__main__":
    main()
