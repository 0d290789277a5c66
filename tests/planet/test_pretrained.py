"""A name is enough for a trained controller: of a task, of a shipped file, or of a file of the Hub with its hash."""

import hashlib
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lit_dcem import load_pretrained
from lit_dcem.envs.suite import suite  # that of dm_control, imported without OpenGL
from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped
from lit_dcem.planet.controller import PRETRAINED
from lit_dcem.training.checkpoint import Checkpoint

SHIPPED = shipped("checkpoints")
SMALL = SHIPPED / "swingup_phase1_1.ckpt"
SHA256 = hashlib.sha256(SMALL.read_bytes()).hexdigest()
ADDRESS = "hf://me/models/planet/small.ckpt@v1"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server with one file on this machine, in place of the Hub."""
    file = tmp_path / "server/me/models/resolve/v1/planet/small.ckpt"
    file.parent.mkdir(parents=True)
    shutil.copy(SMALL, file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "server")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield file
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("task", PRETRAINED)
def test_a_task_has_its_best_checkpoint(task):
    assert load_pretrained(task).env == task
    text = (SHIPPED / "README.md").read_text()
    means = {
        name: float(re.search(r"- result: (?:return )?(\d+)", card)[1])
        for name, card in re.findall(r"### (\w+)\.ckpt\n(.*?)\n\n", text + "\n\n", re.DOTALL)
        if f" of {task}, " in card
    }
    assert max(means, key=means.__getitem__) == PRETRAINED[task]


@pytest.mark.parametrize("name", ["cheetah_dcem_0", "walker_dcem_0", "swingup_phase2_1"])
def test_what_is_called_dcem_has_learned_through_its_search(name):
    learning = Checkpoint.read(SHIPPED / f"{name}.ckpt").module().decoder_learning
    assert learning.solver.is_differentiable and learning.embedding_loss.answer > 0


def test_it_acts():
    step = suite.load("cartpole", "swingup", task_kwargs={"random": 0}).reset()
    names = "cartpole-swingup", "swingup_phase3_2"
    actions = [load_pretrained(name, seed=1).act(step.observation) for name in names]
    assert actions[0].shape == (1,) and (actions[0] == actions[1]).all()


def test_a_file_of_the_hub_is_downloaded_once(hub):
    assert load_pretrained(ADDRESS, SHA256).env == "cartpole-swingup"
    hub.unlink()
    assert load_pretrained(ADDRESS, SHA256).env == "cartpole-swingup"


def test_another_hash_is_refused_and_nothing_kept(hub, tmp_path):
    with pytest.raises(UsageError, match=rf"must have the sha256 {'0' * 64}, got another: .*{SHA256}.*\.$"):
        load_pretrained(ADDRESS, "0" * 64)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_copy_that_was_changed_is_downloaded_again(hub, tmp_path):
    copy = tmp_path / "cache/lit-dcem" / SHA256 / "small.ckpt"
    copy.parent.mkdir(parents=True)
    copy.write_text("changed")
    load_pretrained(ADDRESS, SHA256)
    assert copy.read_bytes() == SMALL.read_bytes()


@pytest.mark.parametrize(
    ("name", "sha256", "says"),
    [
        (
            "cheetah-walk",
            None,
            "must be cartpole-swingup, cheetah-run, walker-walk, the name of a shipped",
        ),
        ("", None, "A pretrained controller must be"),
        ("cheetah-run", SHA256, "sha256 is for files of the Hub, got one for cheetah-run."),
        ("hf://me/models/small.ckpt", SHA256, "must be given as hf://USER/REPOSITORY/FILE@REVISION, got hf://me"),
        ("hf://me/models/../small.ckpt@v1", SHA256, "must be given as"),
        (ADDRESS, None, "must be 64 hexadecimal digits, got None."),
        (ADDRESS, "abc", "must be 64 hexadecimal digits, got abc."),
        ("hf://me/models/gone.ckpt@v1", SHA256, "must be there to download, got http://127.0.0.1:"),
        ("cartpole_d2_0", None, "A controller needs a checkpoint of PlanetPhase1"),
    ],
)
def test_mistakes_are_one_sentence(hub, name, sha256, says):
    with pytest.raises(UsageError) as caught:
        load_pretrained(name, sha256)
    assert says in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)
