"""How a training command ended: done, refused in one sentence, or stopped by a signal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from lit_dcem.errors import StoppedError, UsageError, memory_error
from lit_dcem.files.replacing import WriteError, disk_error
from lit_dcem.planet.data.replay import FILE
from lit_dcem.training.last_checkpoint import LastCheckpoint
from lit_dcem.training.messages import one_sentence
from lit_dcem.training.run_folder import CHECKPOINTS, RunFolder, discard

REUSE = "to reuse its seed episodes, add --data.initial_replay"


class Attempt:
    """How far a command got, which decides what may still be refused and what is then cleaned up."""

    def __init__(self) -> None:
        self.made: Path | None = None
        """folder that was made for a new run"""
        self.folder: RunFolder | None = None
        self.copies_replay = False
        """whether a new run begins with the episodes of another"""
        self.resumed_from: str | None = None
        """what was typed as ``--ckpt_path``"""
        self.last = LastCheckpoint()

    def release(self) -> None:
        """Let other processes work in the folder."""
        if self.folder is not None:
            self.folder.release()

    @contextmanager
    def in_one_sentence(self) -> Iterator[None]:
        """Turn failures into one sentence: before the first update any is a mistake in what was typed."""
        hook = threading.excepthook
        # TensorBoard writes in a thread: a full disk is told once, by the thread that waits for it.
        threading.excepthook = lambda told: None if _of_disk(told.exc_value) else hook(told)
        try:
            yield
        except SIGTERMException:
            raise self._stopped(128 + (self.last.received or 15)) from None
        except SystemExit as exit_:
            if isinstance(exit_.__context__, KeyboardInterrupt):  # which Lightning makes an exit of
                raise self._stopped(130) from None
            raise
        except KeyboardInterrupt:
            raise self._stopped(130) from None
        except UsageError as error:
            useless = isinstance(error, WriteError) and self._has_saved_nothing
            raise self._cleared(error, useless) from error.__cause__
        except Exception as error:
            if (full := disk_error(error)) is not None:
                self._clear(useless=self._has_saved_nothing)
                raise full from error
            if (large := memory_error(error)) is not None:  # searches of an evaluation may be larger than an update's
                self._clear(useless=self._has_saved_nothing)
                raise large from error
            if self.has_updated and not isinstance(error, MisconfigurationException):
                self._tell_what_is_left()
                raise
            raise self._cleared(UsageError(in_plain_words(error))) from error
        else:
            if self.trained_nothing:
                self._clear()
        finally:
            threading.excepthook = hook

    @property
    def trained_nothing(self) -> bool:
        """Whether there is a folder of a new run that made no update, such as one of no epochs."""
        return self.made is not None and not self.has_updated

    @property
    def has_updated(self) -> bool:
        """Whether this command, not one that it resumes, has made an update."""
        return self.folder is not None and self.folder.has_updated

    def _stopped(self, code: int) -> StoppedError:
        if self._has_seed_episodes:
            return StoppedError(code, f"Stopped before the first update; {REUSE}={self.made}.")
        self._clear()
        return StoppedError(code, self.last.said)

    def _tell_what_is_left(self) -> None:
        """Before the traceback of other code, such as an environment's."""
        reuse = f"{REUSE}={self.made}" if self.made is not None and _has_episodes(self.made) else ""
        if left := self.last.left or reuse:
            print(f"lit-dcem: The error below ended the run; {left}.", file=sys.stderr)

    @property
    def _has_seed_episodes(self) -> bool:
        """Whether a run that made no update yet has collected episodes, which may have taken long."""
        return self.made is not None and not self.has_updated and _has_episodes(self.made)

    def _cleared(self, error: UsageError, useless: bool = False) -> UsageError:
        """Keep the seed episodes, or discard the folder; return the error, which tells how to reuse what is kept."""
        if self._has_seed_episodes and not self.copies_replay and not isinstance(error, WriteError):
            return UsageError(f"{str(error).rstrip('.')}; {REUSE}={self.made}.")
        self._clear(useless)
        return error

    @property
    def _has_saved_nothing(self) -> bool:
        return self.made is not None and not any(self.made.glob(f"{CHECKPOINTS}/*.ckpt"))

    def _clear(self, useless: bool = False) -> None:
        if self.made is not None and (useless or not self.has_updated):
            discard(self.made)


def _has_episodes(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob(f"replay/*/{FILE}"))


def _of_disk(error: BaseException | None) -> bool:
    return isinstance(error, Exception) and disk_error(error) is not None


def in_plain_words(error: Exception) -> str:
    """One sentence for what a mistake in the options has led to."""
    kind = "" if isinstance(error, (ValueError, MisconfigurationException)) else f"{type(error).__name__}: "
    return kind + one_sentence(str(error) or "no reason given")
