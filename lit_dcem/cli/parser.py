"""The parser of commands that take configs."""

from __future__ import annotations

from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from lit_dcem.errors import UsageError
from lit_dcem.training.messages import one_sentence


class Parser(LightningArgumentParser):
    """Takes no abbreviated options, and raises instead of exiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, *others: Any, **options: Any) -> Any:
        """Parse; the null of an option of a part inside a part arrives as its Python name (jsonargparse 4.53).

        So None is null there, too, where somebody types it.
        """
        if args is not None and len(args) == 1 and args[0].startswith("--") and args[0].endswith("=None"):
            args = [args[0].removesuffix("None") + "null"]
        return super().parse_args(args, *others, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(one_sentence(message)) from ex
