"""Episode replay: finished episodes in one append-only, memory-mapped file. A checkpoint stores its length.

An episode of T steps takes T + 1 rows of float32. Each row has an observation and what led to it::

    row            0     1     2    ...   T
    observation    o_0   o_1   o_2  ...  o_T
    action         0     a_0   a_1  ...  a_T-1     taken at the observation of the previous row
    reward         0     r_0   r_1  ...  r_T-1     received with the observation of this row
    terminated     0     0     0    ...   e        1 if the task was over
    truncated      0     0     0    ...  1 - e     1 if the episode was cut off before that

A world model can therefore step through the rows in order: the action of a row leads to its observation and reward.
Nothing led to the first row of an episode, so its action and reward are zero, and a model starts there from its initial
belief. The next episode follows directly. The file holds finished episodes only; a checkpoint holds the running ones.

The rows that a checkpoint counts are on the disk before the checkpoint is written, even if the process is killed.
``append`` writes its rows to the file before it counts them, and ``state_dict`` flushes the file to the disk before it
returns the count. The next append truncates the file to the counted rows, which removes incomplete ones.
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
"""name of the file in a replay's folder"""
MARKS = 3
"""number of columns after observation and action: reward, terminated, truncated"""
REMEDY = "restore the file that belongs to the checkpoint, or start a new run"


class EpisodeReplay:
    """Stores finished episodes in a folder, and samples sequences of their rows.

    A replay starts empty. Its first append deletes the episodes that an earlier run left in the folder, except those
    that ``load_state_dict`` or ``take_all`` has loaded. Only one process may write to a folder, so each rank needs its
    own.

    Args:
        folder: where the file is; the first append creates it.
        observation_dim: O, numbers in an observation.
        action_dim: A, numbers in an action.

    Raises:
        ValueError: a size below 1.
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
        """Number of finished episodes."""
        return len(self._bounds) - 1

    @property
    def num_steps(self) -> int:
        """Number of actions in all episodes. Each episode has one row more than it has actions."""
        return len(self._rows) - self.num_episodes

    def append(self, episode: Episode) -> None:
        """Add a finished episode. If that fails, the replay stays as it was.

        Raises:
            ValueError: sizes that do not fit each other or the replay, or a value that is not finite.
            UsageError: the file has lost rows that were written before.
            WriteError: the file cannot be written, for example because the disk is full.
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
        """A copy of episode ``index``, counted from 0 in the order in which they were appended."""
        index = range(self.num_episodes)[index]
        first, end = self._bounds[index : index + 2]
        rows, numbers = torch.from_numpy(self._rows[first:end].copy()), torch.full((end - first,), index)
        fields = self._split(rows, torch.zeros(end - first, dtype=torch.bool), numbers)
        return Episode(fields.observations, fields.actions[1:], fields.rewards[1:], bool(fields.terminated[-1]))

    def sample(self, batch_size: int, length: int, generator: torch.Generator) -> Sequences:
        """Sample sequences of consecutive rows. Their first rows are drawn uniformly, with replacement.

        A sequence continues across the ends of episodes, and wraps around from the last row to the first. Every row is
        therefore equally likely to be sampled, however short its episode is. ``first`` marks where episodes begin. The
        sample depends only on the episodes and the generator.

        Args:
            batch_size: B, number of sequences.
            length: L, rows of a sequence.
            generator: draws the first rows, on the CPU.

        Raises:
            ValueError: a size below 1, or an empty replay.
        """
        if min(batch_size, length) < 1:
            raise ValueError(f"batch_size and length must be at least 1, got {batch_size} and {length}.")
        if not len(self._rows):
            raise ValueError("Sequences need at least one episode, got none.")
        starts = torch.randint(len(self._rows), (batch_size,), generator=generator).numpy()
        # The row before each sequence is read as well, because an episode begins after each row that ends one.
        indices = starts + np.arange(-1, length)[:, None]
        before_and_rows = torch.from_numpy(self._rows.take(indices, axis=0, mode="wrap"))
        return self._split(before_and_rows[1:], before_and_rows[:-1, :, -2:].any(-1), self._numbers(indices[1:]))

    def state_dict(self) -> dict[str, int]:
        """Number of rows and episodes, sizes and checksum, for a checkpoint. Flushes all these rows to the disk first.

        Raises:
            UsageError: the file has lost rows.
        """
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
        """Load the episodes that were there when the checkpoint was written, and drop later ones.

        The file itself does not change until the next append, which truncates it. Until then, a run can still be
        resumed from later checkpoints.

        Raises:
            UsageError: a checkpoint with other sizes, or a file that is missing, too short, damaged or of another run.
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
        """Load all complete episodes in the file, for use without a checkpoint that knows their number.

        Raises:
            UsageError: the file is missing, or does not hold complete episodes of these sizes.
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
        """Write bytes after the rows that count, in place of anything that follows them."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        self._check_length(len(self._rows))
        with writing(self.path), self.path.open("rb+") as file:
            file.truncate(self._rows.nbytes)
            file.seek(self._rows.nbytes)
            file.write(content)

    def _map(self, num_rows: int) -> Float[np.ndarray, "rows columns"]:
        """The first rows of the file, memory-mapped, so that the operating system decides what stays in memory."""
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
        """Numbers of the episodes that rows belong to; row indices wrap around."""
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
