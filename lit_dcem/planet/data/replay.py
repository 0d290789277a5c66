"""Episode replay: finished episodes in one append-only, memory-mapped file, to which a checkpoint refers by length.

An episode of T steps takes T + 1 rows of float32. Each row has an observation and what led to it::

    row            0     1     2    ...   T
    observation    o_0   o_1   o_2  ...  o_T
    action         0     a_0   a_1  ...  a_T-1     taken at the row above
    reward         0     r_0   r_1  ...  r_T-1     came with the observation of this row
    terminated     0     0     0    ...   e        1 if the episode ended by itself: nothing follows
    truncated      0     0     0    ...  1 - e     1 if it was cut off: it could have gone on

so that a world model steps through the rows as they stand: action t leads to observation and reward t. The first row
has no past, and its action and reward are zero; the row after the end of an episode is the first one of the next, and
a model begins anew there. Running episodes are not in here; they belong to a checkpoint.

Durability, in this order: an append hands its rows to the kernel in a write, and then counts them; ``state_dict`` has
the kernel put everything counted on the disk, and then names how much that is. So what a checkpoint refers to is there
before the checkpoint, whenever the process is killed. What follows, half a row
included, is cut off by the next append.
"""

from __future__ import annotations

import os
import zlib
from array import array
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_dcem.errors import UsageError
from lit_dcem.files.replacing import writing
from lit_dcem.planet.data.episode import Episode, Sequences

FILE = "episodes.f32"
"""inside the folder of a replay"""
MARKS = 3
"""columns of a row after observation and action: reward, terminated, truncated"""
REMEDY = "restore the file that belongs to the checkpoint, or start a new run"


class EpisodeReplay:
    """Finished episodes in a folder, and random sequences of them.

    Starts empty. The first append deletes what an earlier run left in the folder, unless ``load_state_dict`` has taken
    up a part of it. One process writes to a folder: ranks have a folder each.

    Args:
        folder: of the file, in the run folder; made by the first append.
        observation_dim: O.
        action_dim: A.
    """

    def __init__(self, folder: str | Path, observation_dim: int, action_dim: int) -> None:
        if min(observation_dim, action_dim) < 1:
            got = f"{observation_dim} and {action_dim}"
            raise ValueError(f"observation_dim and action_dim must be at least 1, got {got}.")
        self.path = Path(folder) / FILE
        self.observation_dim = observation_dim
        self.action_dim = action_dim
        self._columns = observation_dim + action_dim + MARKS
        self._rows = np.empty((0, self._columns), np.float32)
        self._checksum = 0
        self._bounds = array("q", [0])

    @property
    def num_episodes(self) -> int:
        return len(self._bounds) - 1

    @property
    def num_steps(self) -> int:
        """Actions taken in all episodes; there are as many rows, and one more an episode."""
        return len(self._rows) - self.num_episodes

    def append(self, episode: Episode) -> None:
        """Add a finished episode, all of it or (when the disk is full, say) nothing.

        Raises:
            ValueError: its sizes do not fit each other or the replay, or a value is not finite.
            UsageError: somebody took rows away that were written before.
            WriteError: the disk is full; the episodes that were there are as they were.
        """
        self._check(episode)
        rows = _as_rows(episode)
        if not np.isfinite(rows).all():
            raise ValueError("The values of an episode must be finite in float32, got NaN or infinity.")
        self._write(rows.tobytes())
        self._rows = self._map(len(self._rows) + len(rows))
        self._checksum = zlib.crc32(rows.data, self._checksum)
        self._bounds.append(len(self._rows))

    def episode(self, index: int) -> Episode:
        """A copy of an episode, in the order of their appends."""
        index = range(self.num_episodes)[index]
        first, end = self._bounds[index : index + 2]
        rows, numbers = torch.from_numpy(self._rows[first:end].copy()), torch.full((end - first,), index)
        fields = self._split(rows, torch.zeros(end - first, dtype=torch.bool), numbers)
        return Episode(fields.observations, fields.actions[1:], fields.rewards[1:], bool(fields.terminated[-1]))

    def sample(self, batch_size: int, length: int, generator: torch.Generator) -> Sequences:
        """Sequences of consecutive rows, that begin at any row as likely as at any other, with repetition.

        They continue across the ends of episodes, and wrap around from the last row to the first. So every row is
        learned from equally often, however short its episode is; ``first`` tells where episodes begin. The draw
        depends on the episodes and the generator (a CPU one) alone.

        Args:
            batch_size: B.
            length: L in rows.
            generator: of the draw.

        Raises:
            ValueError: sizes below 1, or no episode yet.
        """
        if min(batch_size, length) < 1:
            raise ValueError(f"batch_size and length must be at least 1, got {batch_size} and {length}.")
        if not len(self._rows):
            raise ValueError("Sequences need at least one episode, got none.")
        starts = torch.randint(len(self._rows), (batch_size,), generator=generator).numpy()
        # The row before each sequence comes too: where it ends an episode, one begins.
        indices = starts + np.arange(-1, length)[:, None]
        before_and_rows = torch.from_numpy(self._rows.take(indices, axis=0, mode="wrap"))
        return self._split(before_and_rows[1:], before_and_rows[:-1, :, -2:].any(-1), self._numbers(indices[1:]))

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint has to know; everything it counts is on the disk by then (`UsageError` if it vanished)."""
        self._check_length(len(self._rows))
        if len(self._rows):
            with writing(self.path), self.path.open("rb+") as file:
                os.fsync(file.fileno())
        return {
            "rows": len(self._rows),
            "episodes": self.num_episodes,
            "observation_dim": self.observation_dim,
            "action_dim": self.action_dim,
            "checksum": self._checksum,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take up what was there when the checkpoint was written, and forget what was appended since.

        The file stays as it is until the next append, which cuts it there: checkpoints written later than this one can
        be resumed until then.

        Raises:
            UsageError: the checkpoint is of other sizes, or the file is missing, too short, damaged or another run's.
        """
        sizes = {"observation_dim": self.observation_dim, "action_dim": self.action_dim}
        saved = {name: state[name] for name in sizes}
        if saved != sizes:
            rule = f"The replay in {self.path.parent} must have the sizes of the environment"
            raise UsageError(f"{rule}: {_listed(sizes)}, got {_listed(saved)}; resume with the checkpoint's own task.")
        rows = self._map(state["rows"])
        if zlib.crc32(rows.data) != state["checksum"]:
            got = "got other values: it is damaged, or was continued from another checkpoint"
            raise UsageError(f"{self.path} must hold what the checkpoint refers to, {got}; {REMEDY}.")
        self._take(rows, np.flatnonzero(rows[:, -2:].any(1)) + 1, state["checksum"])

    def take_all(self) -> None:
        """Take up every whole episode in the file, when there is no checkpoint that knows how many count.

        Raises:
            UsageError: the file is missing, or not of whole episodes of these sizes.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        rows = self._map(size // (4 * self._columns))
        marks = rows[:, -2:]
        ends = np.flatnonzero(marks.any(1)) + 1
        if not len(ends) or not np.isin(marks, (0, 1)).all() or not np.isfinite(rows).all():
            sizes = _listed({"observation_dim": self.observation_dim, "action_dim": self.action_dim})
            raise UsageError(f"{self.path} must hold episodes with {sizes}, got {size} bytes of something else.")
        rows = rows[: ends[-1]]
        self._take(rows, ends, zlib.crc32(rows.data))

    def _take(self, rows: np.ndarray, ends: np.ndarray, checksum: int) -> None:
        self._rows, self._checksum = rows, checksum
        self._bounds = array("q", [0, *ends.tolist()])

    def _check(self, episode: Episode) -> None:
        steps = len(episode.actions)
        expected = [(steps + 1, self.observation_dim), (steps, self.action_dim), (steps,)]
        shapes = [tuple(values.shape) for values in (episode.observations, episode.actions, episode.rewards)]
        if steps < 1 or shapes != expected:
            rule = f"An episode must be [T + 1, {self.observation_dim}], [T, {self.action_dim}] and [T], T at least 1"
            raise ValueError(f"{rule}, got {', '.join(str(list(shape)) for shape in shapes)}.")

    def _write(self, content: bytes) -> None:
        """Put bytes behind the rows that count; the file ends with them."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        self._check_length(len(self._rows))
        with writing(self.path), self.path.open("rb+") as file:
            file.truncate(self._rows.nbytes)
            file.seek(self._rows.nbytes)
            file.write(content)

    def _map(self, num_rows: int) -> Float[np.ndarray, "rows columns"]:
        """The first rows of the file, in memory that the operating system fills and takes back as it likes."""
        self._check_length(num_rows)
        if num_rows == 0:
            return np.empty((0, self._columns), np.float32)
        return np.asarray(np.memmap(self.path, np.float32, "r", shape=(num_rows, self._columns)))

    def _check_length(self, num_rows: int) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        there = size // (4 * self._columns)
        if there < num_rows:
            raise UsageError(f"{self.path} must hold at least {num_rows} rows, got {there}; {REMEDY}.")

    def _numbers(self, indices: np.ndarray) -> Tensor:
        """The episodes that rows are of; they wrap around."""
        ends = np.asarray(self._bounds)[1:]
        return torch.from_numpy(np.searchsorted(ends, indices % len(self._rows), side="right"))

    def _split(
        self, rows: Float[Tensor, "*batch columns"], first: Bool[Tensor, "*batch"], episode: Int[Tensor, "*batch"]
    ) -> Sequences:
        fields = rows.split([self.observation_dim, self.action_dim, 1, 1, 1], -1)
        observations, actions, rewards, terminated, _ = (field.contiguous() for field in fields)
        return Sequences(observations, actions, rewards.squeeze(-1), terminated.squeeze(-1), first, episode)


def _as_rows(episode: Episode) -> Float[np.ndarray, "times columns"]:
    last = torch.zeros(len(episode.observations), 2)
    last[-1, 0 if episode.terminated else 1] = 1
    led_here = torch.cat([episode.actions, episode.rewards.unsqueeze(1)], 1).detach()
    led_here = torch.nn.functional.pad(led_here, (0, 0, 1, 0))
    return torch.cat([episode.observations.detach(), led_here, last], 1).float().numpy()


def _listed(sizes: dict[str, int]) -> str:
    return " and ".join(f"{name} {size}" for name, size in sizes.items())
