"""The one exception of the command line."""


class UsageError(Exception):
    """Something the user typed cannot be done: one sentence, shown without a traceback, with exit code 2."""
