"""Files that survive a kill, a full disk, and a mistake in where they go."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_dcem.errors import UsageError
from lit_dcem.files.replacing import WriteError, check_writable, disk_error, open_replacing, replacing, writing
from lit_dcem.training.checkpoint_io import SafeCheckpointIO
from lit_dcem.training.video import write_video

SUDDEN = {
    "fsync": errno.EIO,
    "replace": errno.ENOSPC,
}
"""what the operating system may refuse after everything is written"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text):
    with open_replacing(path) as file:
        file.write(text)


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("old\n", "new\r\n ü"):
        write(path, text)
        assert path.read_bytes() == text.encode() and names(path.parent) == ["a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    write(path, "old")
    with open_replacing(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), RuntimeError("no")])
def test_what_goes_wrong_in_between_leaves_the_old_file_alone(tmp_path, error):
    write(tmp_path / "a.txt", "old")

    def attempt():
        with open_replacing(tmp_path / "a.txt") as file:
            file.write("new")
            raise error

    with pytest.raises(type(error)):
        attempt()
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("call", SUDDEN)
def test_a_disk_that_fails_in_the_end_is_one_sentence(tmp_path, monkeypatch, call):
    write(tmp_path / "a.txt", "old")

    def fail(*_):
        raise OSError(SUDDEN[call], os.strerror(SUDDEN[call]))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UsageError) as error:
        write(tmp_path / "a.txt", "new")
    assert str(error.value) == f"{tmp_path}/a.txt must be writable, got {os.strerror(SUDDEN[call])}; it is as it was."
    assert isinstance(error.value, OSError) and error.value.errno == SUDDEN[call]
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_permissions_stay_and_follow_the_mask(tmp_path):
    path = tmp_path / "a.txt"
    before = os.umask(0o027)
    try:
        write(path, "old")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write(path, "new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)


def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    write(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a.txt")  # root may do anything
    for attempt in (lambda: write(tmp_path / "a.txt", "new"), lambda: check_writable(tmp_path / "a.txt", "--out")):
        with pytest.raises(WriteError, match="Permission denied"):
            attempt()
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    write(tmp_path / "there" / "a.txt", "old")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "a.txt").read_text() == "new"
    with open_replacing(tmp_path / "link", follow_links=False) as file:
        file.write("another")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "there" / "a.txt").read_text() == "new"


def test_a_pipe_is_written_as_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_writable(tmp_path / "pipe", "--out")
    write(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    check_writable("/dev/null", "--out")
    write("/dev/null", "nothing")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_parts_of_killed_processes_go_with_the_next_write(tmp_path):
    """Those of processes that live, and of other files, stay."""
    code = "import os, sys; from lit_dcem.files.replacing import replacing\n"
    code += "with replacing(sys.argv[1]) as p: p.touch(); os._exit(1)"
    for name in ("a[1].txt", "b.txt"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    assert len(names(tmp_path)) == 2 and all(name.startswith(".") for name in names(tmp_path))
    with replacing(tmp_path / "a[1].txt") as mine:
        mine.touch()
        assert len(names(tmp_path)) == 2 and mine.exists()
    assert [name.split(".txt.")[0] for name in names(tmp_path)] == [".b", "a[1].txt"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (".", r"--out must be a file, got the folder \S+\."),
        ("file/a.txt", r"--out must be writable, got \S+file/a.txt \(Not a directory\)\."),
        ("x" * 300, r"--out must be writable, got .* \(File name too long\)\."),
        ("\0", r"--out must be writable, got .* \(embedded null byte\)\."),
        ("/proc/a.txt", r"--out must be writable, got /proc/a.txt \(No such file or directory\)\."),
    ],
)
def test_what_cannot_be_written_is_told_before(tmp_path, path, says):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"^{says}$"):
        check_writable(tmp_path / path, "--out")
    assert names(tmp_path) == ["file"]


def test_what_can_be_written_is_left_as_it_is(tmp_path):
    write(tmp_path / "a.txt", "old")
    for name in ("a.txt", "b.txt", "c/d/e.txt"):
        check_writable(tmp_path / name, "--out")
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_errors_of_other_kinds_pass():
    with pytest.raises(RuntimeError, match="mine"), writing("a"):
        raise RuntimeError("mine")
    assert disk_error(FileNotFoundError(errno.ENOENT, "No such file or directory", "a")) is None
    assert disk_error(ValueError("wrong")) is None
    full = disk_error(OSError(errno.ENOSPC, "No space left on device", "a"))
    assert str(full) == "a must be writable, got No space left on device."


class TestFullDisk:
    """A file may grow to 100 kB in here: more is refused as it is on a full disk, in the middle of a write."""

    @pytest.fixture(autouse=True)
    def _limit(self):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    def test_a_checkpoint(self, tmp_path):
        path, files = tmp_path / "last.ckpt", SafeCheckpointIO()
        files.save_checkpoint({"global_step": 1, "state_dict": {"a": torch.ones(1000)}}, path)
        with pytest.raises(WriteError, match=r"last.ckpt must be writable, got File too large; it is as it was\.$"):
            files.save_checkpoint({"global_step": 2, "state_dict": {"a": torch.ones(100_000)}}, path)
        assert names(tmp_path) == ["last.ckpt"]
        assert files.load_checkpoint(path, weights_only=True)["global_step"] == 1
        files.save_checkpoint({"global_step": 3, "state_dict": {}}, path)  # there is space again
        assert files.load_checkpoint(path, weights_only=True)["global_step"] == 3

    @pytest.mark.parametrize("suffix", [".mp4", ".gif"])
    def test_a_video(self, tmp_path, suffix):
        noise = np.random.default_rng(0).integers(0, 255, (40, 120, 160, 3), np.uint8)
        path = tmp_path / f"film{suffix}"
        write_video(path, noise[:2], 20)
        before = path.read_bytes()
        with pytest.raises(WriteError, match=r"film.* must be writable, got .*; it is as it was\.$"):
            write_video(path, noise, 20)
        assert path.read_bytes() == before and names(tmp_path) == [path.name]

    def test_text(self, tmp_path):
        write(tmp_path / "a.txt", "old")
        with pytest.raises(WriteError, match="File too large"):
            write(tmp_path / "a.txt", "x" * 200_000)
        assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_checkpoints_can_be_checked_and_removed(tmp_path):
    files = SafeCheckpointIO()
    files.save_checkpoint({"a": torch.ones(3)}, tmp_path / "new" / "a.ckpt")
    assert zipfile.ZipFile(tmp_path / "new" / "a.ckpt").testzip() is None
    files.save_checkpoint({"a": torch.zeros(3)}, f"file://{tmp_path}/b.ckpt")
    assert torch.equal(files.load_checkpoint(tmp_path / "b.ckpt", weights_only=True)["a"], torch.zeros(3))
    files.remove_checkpoint(tmp_path / "b.ckpt")
    assert names(tmp_path) == ["new"] and names(tmp_path / "new") == ["a.ckpt"]


def test_a_link_to_a_checkpoint_is_replaced_and_not_the_checkpoint(tmp_path):
    files = SafeCheckpointIO()
    files.save_checkpoint({"epoch": 1}, tmp_path / "epoch=1.ckpt")
    (tmp_path / "last.ckpt").symlink_to("epoch=1.ckpt")
    files.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")
    assert [files.load_checkpoint(tmp_path / name)["epoch"] for name in ("epoch=1.ckpt", "last.ckpt")] == [1, 2]


def test_remote_addresses_are_left_to_lightning(tmp_path):
    files = SafeCheckpointIO()
    files.save_checkpoint({"epoch": 1}, "memory://runs/a.ckpt")
    assert files.load_checkpoint("memory://runs/a.ckpt")["epoch"] == 1 and not names(tmp_path)


KILLS = """
import os, sys, time, zipfile, torch
from lit_dcem.training.checkpoint_io import SafeCheckpointIO

path, kills = sys.argv[1], int(sys.argv[2])
files, weights, step = SafeCheckpointIO(), torch.arange(500_000.0), 0

def save(step, pipe):
    while True:
        files.save_checkpoint({"global_step": step, "state_dict": {"weights": weights + step}}, path)
        os.write(pipe, b"%d " % step)
        step += 1

for kill in range(kills):
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        save(step + 1, writer)
    os.close(writer)
    said = os.read(reader, 1)
    time.sleep(0.0013 * kill % 0.05)
    os.kill(process, 9)
    os.waitpid(process, 0)
    saved = int((said + os.read(reader, 60_000)).split()[-1])
    os.close(reader)
    assert zipfile.ZipFile(path).testzip() is None
    content = torch.load(path, weights_only=True)
    step = content["global_step"]
    assert step in (saved, saved + 1), (step, saved)
    assert torch.equal(content["state_dict"]["weights"], weights + step)
"""


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_in_a_save_leaves_a_whole_checkpoint(tmp_path, kills):
    """Processes that do nothing but save are killed at some moment: the file is that of the last save or the next."""
    path = tmp_path / "last.ckpt"
    subprocess.run([sys.executable, "-c", KILLS, str(path), str(kills)], check=True)
    SafeCheckpointIO().save_checkpoint({}, path)
    assert names(tmp_path) == ["last.ckpt"]  # and no parts of the killed ones
