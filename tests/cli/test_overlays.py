"""A config that goes over several others has values for what is there, and leaves out the rest."""

from pathlib import Path

import pytest
import yaml

from lit_dcem.cli.completing import missing
from lit_dcem.cli.configs import leaves
from lit_dcem.cli.overlays import MARK, spell_out, without_overlays
from lit_dcem.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"
SOLVER = {"class_path": "lit_dcem.DCEM", "init_args": {"num_elites": 3}}
BEFORE = {
    "model": {
        "class_path": "lit_dcem.PlanetPhase2",
        "init_args": {
            "start": "x.ckpt",
            "num_beliefs": 3,
            "planner": {"class_path": "lit_dcem.LatentPlanner", "init_args": {"solver": SOLVER}},
        },
    },
    "data": {"class_path": "lit_dcem.Rollouts"},
    "trainer": {"max_epochs": 9},
}
SIZE = {"init_args": {"solver": {"init_args": {"num_candidates": 1}}}}
OVERLAY = {
    MARK: True,
    "model": {
        "init_args": {
            "num_beliefs": 1,
            "speed": 2,
            "planner": {"init_args": {"value": {"init_args": {"hidden_dim": 3}}, **SIZE["init_args"]}},
            "seed_planner": SIZE,
            "policy_gradient": {"init_args": {"value_steps": 1}},
        }
    },
    "data": {"init_args": {"batch_size": 1, "num_batches": 1}},
}
HERE = [
    "--model.init_args.num_beliefs=1",
    "--model.init_args.planner.init_args.solver.init_args.num_candidates=1",
    "--data.init_args.batch_size=1",
]
"""what a second phase takes: not what is of another phase, nor the parts that it has none of"""


@pytest.fixture
def paths(tmp_path):
    found = {}
    for name, content in (("before", BEFORE), ("overlay", OVERLAY)):
        found[name] = str(tmp_path / f"{name}.yaml")
        Path(found[name]).write_text(yaml.safe_dump(content, sort_keys=False))
    return found


@pytest.mark.parametrize("joined", [True, False])
def test_only_what_is_there_becomes_options_in_its_place(paths, joined):
    before, overlay = ([f"--config={path}"] if joined else ["--config", path] for path in paths.values())
    spelled = spell_out(["fit", *before, "--trainer.x=1", *overlay, "--model.init_args.num_beliefs=7"])
    assert spelled == ["fit", *before, "--trainer.x=1", *HERE, "--model.init_args.num_beliefs=7"]


def test_a_part_that_the_run_in_start_has_counts(paths):
    found = {
        "model": {"init_args": {"seed_planner": {"class_path": "lit_dcem.CEMPlanner", "init_args": {"solver": SOLVER}}}}
    }
    spelled = spell_out(["fit", *(f"--config={path}" for path in paths.values())], found)
    assert "--model.init_args.seed_planner.init_args.solver.init_args.num_candidates=1" in spelled


def test_all_configs_before_it_count(paths, tmp_path):
    (tmp_path / "data.yaml").write_text("data: {class_path: lit_dcem.OnPolicyRollouts}\n")
    arguments = [f"--config={path}" for path in (paths["before"], tmp_path / "data.yaml", paths["overlay"])]
    assert "--data.init_args.num_batches=1" in spell_out(arguments)


def test_it_needs_a_config_before_it(paths):
    with pytest.raises(UsageError, match=r"must come after another config, got .*overlay\.yaml as the first"):
        spell_out(["fit", f"--config={paths['overlay']}"])
    found = {"model": {"init_args": {"seed_planner": {"class_path": "lit_dcem.CEMPlanner"}}}}  # of a run in start
    with pytest.raises(UsageError, match=r"must come after another config, got .*overlay\.yaml as the first"):
        spell_out(["fit", f"--config={paths['overlay']}", f"--config={paths['before']}"], found)


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


def test_every_debug_size_is_taken_by_some_experiment():
    content = yaml.safe_load((CONFIGS / "debug.yaml").read_text())
    wanted = {name for name, _ in leaves({part: content[part] for part in ("model", "data")})}
    taken: set[str] = set()
    for configs in (["regression"], ["phase1", "value"], ["phase2_dcem"], ["phase3"], ["joint"]):
        words = [f"--config={CONFIGS / name}.yaml" for name in (*configs, "debug")]
        start = {"phase2_dcem": "cheetah_phase1_fast_0", "phase3": "cheetah_phase2_fast_0"}.get(configs[0])
        words = ["fit", *words, *([f"--model.start={start}"] if start else [])]
        words = spell_out(words, missing(without_overlays(words)))
        taken |= {word.removeprefix("--").partition("=")[0] for word in words}
    assert wanted <= taken
