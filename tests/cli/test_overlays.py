"""A config that goes over several others has values for what is there, and leaves out the rest."""

from pathlib import Path

import pytest
import yaml

from lit_dcem.cli.overlays import MARK, spell_out
from lit_dcem.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"
PLANET = [*CONFIGS.glob("*_phase*.yaml"), CONFIGS / "cheetah_joint.yaml"]
BEFORE = {"model": {"class_path": "A", "init_args": {"size": 3, "start": "x.ckpt"}}, "trainer": {"max_epochs": 9}}
OVERLAY = {MARK: True, "model": {"init_args": {"size": 1, "start": None, "speed": 2}}, "data": {"init_args": {"n": 1}}}


@pytest.fixture
def paths(tmp_path):
    found = {}
    for name, content in (("before", BEFORE), ("overlay", OVERLAY)):
        found[name] = str(tmp_path / f"{name}.yaml")
        Path(found[name]).write_text(yaml.safe_dump(content))
    return found


@pytest.mark.parametrize("joined", [True, False])
def test_only_what_is_there_becomes_options_in_its_place(paths, joined):
    before, overlay = ([f"--config={path}"] if joined else ["--config", path] for path in paths.values())
    spelled = spell_out(["fit", *before, "--trainer.x=1", *overlay, "--model.init_args.size=7"])
    here = ["--model.init_args.size=1", "--model.init_args.start=null"]
    assert spelled == ["fit", *before, "--trainer.x=1", *here, "--model.init_args.size=7"]


def test_all_configs_before_it_count(paths, tmp_path):
    (tmp_path / "data.yaml").write_text("data: {init_args: {n: 5}}\n")
    arguments = [f"--config={path}" for path in (paths["before"], tmp_path / "data.yaml", paths["overlay"])]
    assert "--data.init_args.n=1" in spell_out(arguments)


def test_it_needs_a_config_before_it(paths):
    with pytest.raises(UsageError, match=r"must come after another config, got .*overlay\.yaml as the first"):
        spell_out(["fit", f"--config={paths['overlay']}"])


@pytest.mark.parametrize("content", [b"- 1\n", b"a: {\n", b""])
def test_what_cannot_be_read_is_left_to_the_parser(paths, tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    for path in (str(tmp_path / "bad.yaml"), "nowhere.yaml", "", "nul\0"):
        arguments = ["fit", f"--config={paths['before']}", f"--config={path}", "--config"]
        assert spell_out(arguments) == arguments


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "must be text in UTF-8"),
        (b"a: &a {b: *a}\n", "at most 100 levels"),
        (b"[" * 3000, "at most 100 levels"),
    ],
)
def test_what_a_parser_would_choke_on_is_refused(paths, tmp_path, content, says):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        spell_out(["fit", f"--config={paths['before']}", f"--config={tmp_path / 'bad.yaml'}"])


def names(config, prefix=""):
    for name, value in config.items():
        yield from names(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]


def test_every_debug_size_is_of_some_config():
    known = {name for path in PLANET for name in names(yaml.safe_load(path.read_text()))}
    debug = set(names(yaml.safe_load((CONFIGS / "debug_planet.yaml").read_text()))) - {MARK}
    assert debug <= known
