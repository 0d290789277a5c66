"""Replay: what is stored and drawn, and what is left after a kill, a resume, a full disk and a damaged file."""

import errno
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric.utilities.apply_func import move_data_to_device
from pytorch_lightning.plugins.precision import HalfPrecision

from lit_dcem.errors import UsageError
from lit_dcem.planet.data.episode import Episode
from lit_dcem.planet.data.replay import EpisodeReplay

quick = settings(deadline=None, derandomize=True, max_examples=60)
ROOT = Path(__file__).parents[2]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def episode(number, steps, terminated=False):
    """Observation t is (number, t), the action there (t, number, 1), the reward after it t + 0.5."""
    t = torch.arange(steps + 1.0)
    own = torch.full_like(t, number)
    actions = torch.stack([t, own, torch.ones_like(t)], 1)[:-1]
    return Episode(torch.stack([own, t], 1), actions, t[:-1] + 0.5, terminated)


def filled(folder, lengths=(4, 9, 2)):
    replay = EpisodeReplay(folder, 2, 3)
    for number, steps in enumerate(lengths):
        replay.append(episode(number, steps, number % 2 == 0))
    return replay


def resumed(folder, state):
    replay = EpisodeReplay(folder, 2, 3)
    replay.load_state_dict(state)
    return replay


def assert_same(one, other):
    for name, values in vars(one).items():
        torch.testing.assert_close(getattr(other, name), values, rtol=0, atol=0)


def assert_holds(replay, lengths):
    assert replay.num_episodes == len(lengths)
    assert replay.num_steps == sum(lengths)
    for number, steps in enumerate(lengths):
        assert_same(replay.episode(number), episode(number, steps, number % 2 == 0))


def assert_draw_alike(one, other):
    for a, b in zip(one.sample(20, 3, generator()), other.sample(20, 3, generator()), strict=True):
        assert torch.equal(a, b)


# What is stored


@pytest.mark.parametrize("terminated", [True, False])
def test_a_row_holds_an_observation_and_what_led_to_it(tmp_path, terminated):
    replay = EpisodeReplay(tmp_path, 2, 3)
    replay.append(episode(7, 3, terminated))
    drawn = replay.sample(20, 4, generator())
    assert [tuple(field.shape) for field in drawn] == [(4, 20, 2), (4, 20, 3), *[(4, 20)] * 4]
    columns = [
        [[7, 0], [7, 1], [7, 2], [7, 3]],
        [[0, 0, 0], [0, 7, 1], [1, 7, 1], [2, 7, 1]],
        [0, 0.5, 1.5, 2.5],
        [0, 0, 0, float(terminated)],
        [True, False, False, False],
        [0, 0, 0, 0],
    ]
    starts = drawn.observations[0, :, 1].int().tolist()
    assert set(starts) == {0, 1, 2, 3}
    for b, start in enumerate(starts):
        assert [field[:, b].tolist() for field in drawn] == [each[start:] + each[:start] for each in columns]


def test_episodes_come_back_as_they_went(tmp_path):
    replay = filled(tmp_path)
    assert_holds(replay, [4, 9, 2])
    assert_same(replay.episode(-1), episode(2, 2, True))
    with pytest.raises(IndexError):
        replay.episode(3)


@torch.inference_mode()
def test_other_precisions_and_inference_tensors_become_plain_float32(tmp_path):
    given, replay = episode(0, 3), EpisodeReplay(tmp_path, 2, 3)
    replay.append(Episode(given.observations.double(), given.actions.bfloat16(), given.rewards.double(), False))
    assert_same(replay.episode(0), given)


def test_batches_are_contiguous_copies(tmp_path):
    replay = filled(tmp_path)
    drawn = replay.sample(5, 3, generator())
    assert [field.dtype for field in drawn] == [torch.float32] * 4 + [torch.bool, torch.int64]
    for field in drawn:
        assert field.is_contiguous()
        field.fill_(-1)
    replay.episode(0).observations.fill_(-1)
    assert_holds(replay, [4, 9, 2])


def test_lightning_moves_and_converts_batches(tmp_path):
    drawn = filled(tmp_path).sample(5, 3, generator())
    assert move_data_to_device(drawn, torch.device("meta")).rewards.is_meta
    half = HalfPrecision("bf16-true").convert_input(drawn)
    assert half.observations.dtype == torch.bfloat16 and half.first.dtype == torch.bool


# What is drawn


@quick
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 2**31))
def test_sequences_run_across_the_ends_of_episodes_and_round_to_the_first(tmp_path_factory, lengths, length, seed):
    replay = filled(tmp_path_factory.mktemp("replay"), lengths)
    rows = [(number, t) for number, steps in enumerate(lengths) for t in range(steps + 1)]
    drawn = replay.sample(8, length, generator(seed))
    numbers, times = drawn.observations.unbind(-1)
    for b in range(8):
        start = rows.index((int(numbers[0, b]), int(times[0, b])))
        expected = [rows[(start + step) % len(rows)] for step in range(length)]
        assert drawn.observations[:, b].tolist() == [list(row) for row in expected]
    assert torch.equal(drawn.first, times == 0)
    ends = (times == torch.tensor(lengths)[numbers.long()]) & (numbers % 2 == 0)
    assert torch.equal(drawn.terminated, ends.float())
    assert torch.equal(drawn.rewards, (times - 0.5).clamp(min=0))
    assert torch.equal(drawn.actions[..., 0], (times - 1).clamp(min=0))


def spread(drawn, rows, each):
    """Whether every row was met ``each`` times, within four standard deviations of a chi-square."""
    assert set(drawn) == set(rows)
    chi_square = sum((drawn.count(row) - each) ** 2 / each for row in rows)
    freedom = len(rows) - 1
    return abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


def test_every_row_is_as_likely_the_ends_included(tmp_path):
    lengths = [1, 3, 30, 2, 7, 1, 15]
    replay = filled(tmp_path, lengths)
    rows = [(number, t) for number, steps in enumerate(lengths) for t in range(steps + 1)]
    drawn = replay.sample(200 * len(rows), 4, generator()).observations.int()
    for step in (0, 3):  # where sequences begin and where they end
        assert spread([tuple(row) for row in drawn[step].tolist()], rows, 200)


def test_episodes_shorter_than_a_sequence_are_all_learned_from(tmp_path):
    replay = filled(tmp_path, [1, 2])
    drawn = replay.sample(30, 50, generator())
    assert drawn.first.sum(0).min() >= 2 * 50 // 5 and drawn.terminated.sum(0).min() >= 9


def test_a_draw_depends_on_the_episodes_and_the_generator_alone(tmp_path):
    busy = EpisodeReplay(tmp_path / "busy", 2, 3)
    for number, steps in enumerate([4, 9, 2]):
        busy.append(episode(number, steps, number % 2 == 0))
        busy.sample(4, 3, generator(number))
        busy.state_dict()
    torch.rand(3)
    assert_draw_alike(busy, filled(tmp_path / "calm"))
    a, b = busy.sample(20, 3, generator(0)), busy.sample(20, 3, generator(1))
    assert not torch.equal(a.observations, b.observations)


def test_no_episode_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^Sequences need at least one episode, got none\.$"):
        EpisodeReplay(tmp_path, 2, 3).sample(1, 5, generator())


# What a checkpoint refers to


def test_state_is_plain_and_small(tmp_path):
    replay = filled(tmp_path / "replay")
    torch.save(replay.state_dict(), tmp_path / "state.ckpt")
    assert (tmp_path / "state.ckpt").stat().st_size < 2000
    state = torch.load(tmp_path / "state.ckpt", weights_only=True)
    assert (state["rows"], state["episodes"]) == (18, 3)
    assert_holds(resumed(tmp_path / "replay", state), [4, 9, 2])


@pytest.mark.parametrize("lengths", [[], [5], [5, 3, 8]])
def test_resumes_at_the_checkpoint_and_goes_on_differently(tmp_path, lengths):
    replay = filled(tmp_path, lengths)
    state = replay.state_dict()
    replay.append(episode(50, 20))
    replay.append(episode(51, 1))
    for again in (resumed(tmp_path, state), resumed(tmp_path, state)):
        assert_holds(again, lengths)
        for number in range(len(lengths), len(lengths) + 3):
            again.append(episode(number, 6, number % 2 == 0))
        assert_holds(again, [*lengths, 6, 6, 6])
        assert again.path.stat().st_size == 4 * (2 + 3 + 3) * (again.num_steps + again.num_episodes)
        assert_draw_alike(again, filled(tmp_path / "never interrupted", [*lengths, 6, 6, 6]))
        assert_holds(resumed(tmp_path, again.state_dict()), [*lengths, 6, 6, 6])


def test_the_same_object_goes_back_to_a_checkpoint(tmp_path):
    replay = filled(tmp_path)
    state = replay.state_dict()
    replay.append(episode(50, 20))
    replay.sample(4, 15, generator())
    replay.load_state_dict(state)
    assert replay.sample(200, 15, generator()).observations[..., 0].max() == 2
    assert_holds(replay, [4, 9, 2])


def test_a_later_checkpoint_holds_until_the_next_append(tmp_path):
    replay = filled(tmp_path, [4])
    early = replay.state_dict()
    replay.append(episode(1, 9))
    late = replay.state_dict()
    resumed(tmp_path, early)
    assert_holds(resumed(tmp_path, late), [4, 9])
    resumed(tmp_path, early).append(episode(1, 9, terminated=True))
    with pytest.raises(UsageError, match="continued from another checkpoint"):
        resumed(tmp_path, late)


def test_half_a_row_and_more_behind_the_checkpoint_are_forgotten(tmp_path):
    replay = filled(tmp_path)
    state = replay.state_dict()
    with replay.path.open("ab") as file:
        file.write(os.urandom(3 * 32 + 7))
    again = resumed(tmp_path, state)
    assert_holds(again, [4, 9, 2])
    again.append(episode(3, 5))
    assert_holds(resumed(tmp_path, again.state_dict()), [4, 9, 2, 5])


def test_a_new_replay_in_a_used_folder_starts_empty(tmp_path):
    filled(tmp_path)
    replay = EpisodeReplay(tmp_path, 2, 3)
    assert_holds(replay, [])
    replay.append(episode(0, 5, terminated=True))
    assert_holds(resumed(tmp_path, replay.state_dict()), [5])


ENDLESS_WRITER = """
import itertools, os, sys
import torch
from lit_dcem.planet.data.episode import Episode
from lit_dcem.planet.data.replay import EpisodeReplay

folder, checkpoint = sys.argv[1:]
replay = EpisodeReplay(folder, 300, 200)
if os.path.exists(checkpoint):
    replay.load_state_dict(torch.load(checkpoint, weights_only=True))
for number in itertools.count(replay.num_episodes):
    draw = torch.Generator().manual_seed(number)
    steps = int(torch.randint(1, 500, (1,), generator=draw))
    observations = torch.randn(steps + 1, 300, generator=draw)
    replay.append(Episode(observations, observations[1:, :200], observations[1:, 0], number % 2 == 0))
    if number % 3 == 0:
        torch.save(replay.state_dict(), checkpoint + ".part")
        os.replace(checkpoint + ".part", checkpoint)
"""


def test_killed_writers_leave_all_that_a_checkpoint_refers_to(tmp_path):
    folder, checkpoint = tmp_path / "replay", tmp_path / "state.ckpt"
    last = 0
    for kill in range(3):
        writer = subprocess.Popen([sys.executable, "-c", ENDLESS_WRITER, folder, checkpoint], cwd=ROOT)
        try:
            while writer.poll() is None and episodes_in(checkpoint) < last + 10 + kill:
                time.sleep(0.01 + 0.003 * kill)
        finally:
            writer.kill()
            assert writer.wait() == -9
        last = episodes_in(checkpoint)
        replay = EpisodeReplay(folder, 300, 200)
        replay.load_state_dict(torch.load(checkpoint, weights_only=True))
        assert replay.num_episodes == last
        for number in range(last):
            draw = generator(number)
            steps = int(torch.randint(1, 500, (1,), generator=draw))
            observations = torch.randn(steps + 1, 300, generator=draw)
            expected = Episode(observations, observations[1:, :200], observations[1:, 0], number % 2 == 0)
            assert_same(replay.episode(number), expected)


def episodes_in(checkpoint):
    return torch.load(checkpoint, weights_only=True)["episodes"] if checkpoint.exists() else 0


# What goes wrong


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"must hold at least 18 rows, got 0; restore the file .*, or start a new run"),
        (lambda path: os.truncate(path, 17 * 32 + 31), "must hold at least 18 rows, got 17; restore"),
        (lambda path: flip(path, 0), "must hold what the checkpoint refers to, got other values: .*; restore"),
        (lambda path: flip(path, 18 * 32 - 1), "must hold what the checkpoint refers to"),
    ],
    ids=["missing", "short", "first byte", "last byte"],
)
def test_a_damaged_file_is_one_sentence(tmp_path, damage, message):
    replay = filled(tmp_path)
    state = replay.state_dict()
    damage(replay.path)
    other = EpisodeReplay(tmp_path, 2, 3)
    with pytest.raises(UsageError, match=rf"^{tmp_path}/episodes.f32 {message}") as raised:
        other.load_state_dict(state)
    assert ". " not in str(raised.value)
    assert_holds(other, [])


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_of_other_sizes_is_one_sentence(tmp_path):
    state = filled(tmp_path).state_dict()
    message = (
        rf"^The replay in {tmp_path} must have the sizes of the environment: observation_dim 24 and action_dim 3, "
        "got observation_dim 2 and action_dim 3; resume with the checkpoint's own task.$"
    )
    with pytest.raises(UsageError, match=message):
        EpisodeReplay(tmp_path, 24, 3).load_state_dict(state)


def test_a_file_that_vanishes_under_a_run_is_one_sentence(tmp_path):
    replay = filled(tmp_path)
    replay.path.unlink()
    with pytest.raises(UsageError, match="must hold at least 18 rows, got 0"):
        replay.append(episode(3, 5))
    with pytest.raises(UsageError, match="must hold at least 18 rows, got 0"):
        replay.state_dict()
    assert_holds(replay, [4, 9, 2])


def test_a_full_disk_loses_the_append_only(tmp_path):
    replay = filled(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (replay.path.stat().st_size + 1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            replay.append(episode(3, 500))
        assert isinstance(error.value, UsageError) and str(replay.path) in str(error.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_holds(replay, [4, 9, 2])
    replay.append(episode(3, 5))
    assert_holds(resumed(tmp_path, replay.state_dict()), [4, 9, 2, 5])


def test_a_disk_that_cannot_keep_what_was_written_makes_no_checkpoint(tmp_path, monkeypatch):
    """The checkpoint before it still finds what it refers to, and space that is freed makes the next one."""
    replay = filled(tmp_path)
    saved = replay.state_dict()
    replay.append(episode(3, 5))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        with pytest.raises(UsageError, match=r"episodes.f32 must be writable, got No space left on device"):
            replay.state_dict()
    assert_holds(resumed(tmp_path, saved), [4, 9, 2])
    assert_holds(resumed(tmp_path, replay.state_dict()), [4, 9, 2, 5])


def changed(**fields):
    return Episode(**{**vars(episode(0, 4)), **fields})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed(observations=torch.zeros(4, 2)), r"T at least 1, got \[4, 2\], \[4, 3\], \[4\]\.$"),
        (changed(observations=torch.zeros(5, 3)), r"\[T \+ 1, 2\], \[T, 3\] and \[T\], .* got \[5, 3\]"),
        (changed(actions=torch.zeros(4, 2)), r"got \[5, 2\], \[4, 2\], \[4\]"),
        (changed(rewards=torch.zeros(5)), r"got \[5, 2\], \[4, 3\], \[5\]"),
        (changed(rewards=torch.zeros(4, 1)), r"got \[5, 2\], \[4, 3\], \[4, 1\]"),
        (episode(0, 0), r"got \[1, 2\], \[0, 3\], \[0\]"),
        (changed(rewards=torch.tensor([0, 1, torch.nan, 0])), "must be finite in float32, got NaN or infinity"),
        (changed(rewards=torch.full((4,), 1e300, dtype=torch.float64)), "must be finite in float32"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(tmp_path, wrong, message):
    replay = filled(tmp_path)
    with pytest.raises(ValueError, match=message):
        replay.append(wrong)
    assert_holds(resumed(tmp_path, replay.state_dict()), [4, 9, 2])


@pytest.mark.parametrize(("batch_size", "length"), [(0, 3), (3, 0), (3, -1)])
def test_empty_batches_are_refused(tmp_path, batch_size, length):
    with pytest.raises(ValueError, match=f"must be at least 1, got {batch_size} and {length}"):
        filled(tmp_path).sample(batch_size, length, generator())


def test_sizes_below_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 3"):
        EpisodeReplay(tmp_path, 0, 3)


USE_EACH_METHOD = """
from jaxtyping import install_import_hook

install_import_hook(["lit_dcem.planet.data.episode", "lit_dcem.planet.data.replay"], "beartype.beartype")

import sys
import torch
from lit_dcem.planet.data.episode import Episode
from lit_dcem.planet.data.replay import EpisodeReplay

replay = EpisodeReplay(sys.argv[1], 2, 3)
replay.load_state_dict(replay.state_dict())
replay.append(Episode(torch.zeros(6, 2), torch.zeros(5, 3), torch.zeros(5), True))
replay.load_state_dict(replay.state_dict())
replay.sample(4, 3, torch.Generator())
replay.episode(0)
try:
    Episode(torch.zeros(6, 2), torch.zeros(5, 3), torch.zeros(4), True)
except Exception as error:
    assert "rewards" in str(error), error
else:
    raise SystemExit("nothing checks the shapes")
"""


def test_replay_keeps_to_its_annotated_shapes(tmp_path):
    command = [sys.executable, "-W", "error", "-c", USE_EACH_METHOD, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
