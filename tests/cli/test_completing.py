"""What a config leaves open comes from its environment, and from the run that it starts from."""

import json
from pathlib import Path

import pytest
import yaml

from lit_dcem.cli.completing import missing
from lit_dcem.cli.configs import given_in, merged, plain
from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped

CONFIGS = Path(__file__).parents[2] / "configs"


def completed(*arguments):
    """The config that is put in front, in short form; empty if there is none."""
    return plain(missing(["fit", *arguments]))


def config(name):
    return f"--config={CONFIGS / name}.yaml"


@pytest.mark.parametrize(
    ("env", "sizes"),
    [("cheetah-run", (17, 6)), ("Pendulum-v1", (3, 1)), ("walker-walk", (24, 6))],
)
@pytest.mark.parametrize("option", ["--data.env={}", "--data.init_args.env={}"])
def test_sizes_are_those_of_the_environment(env, sizes, option):
    model = completed(config("phase1"), option.format(env))["model"]
    assert (model["world_model"]["observation_dim"], model["world_model"]["action_dim"]) == sizes


def test_an_option_may_be_a_word_of_its_own():
    assert completed(config("phase1"), "--data.env", "Pendulum-v1")["model"]["world_model"]["action_dim"] == 1


def test_a_value_has_the_sizes_of_the_belief():
    sizes = '--model.world_model.rssm={"deter_dim": 50, "stoch_dim": 6}'
    value = completed(config("phase1"), config("value"), sizes)["model"]["planner"]["value"]
    assert (value["deter_dim"], value["stoch_dim"]) == (50, 6)


def test_options_of_the_environment_count():
    options = '--data.env_options={"environment_kwargs": {"flat_observation": true}}'
    assert completed(config("phase1"), options)["model"]["world_model"]["observation_dim"] == 17


def test_options_of_an_environment_are_not_taken_for_classes():
    typed = '--data.env_options={"model": "ant.xml", "data": "a.b"}'
    assert given_in([typed])["data"]["env_options"] == {"model": "ant.xml", "data": "a.b"}
    later = ["--model.planner=lit_dcem.CEMPlanner", "--model.planner.horizon=4"]
    assert given_in(later)["model"]["planner"] == {"class_path": "lit_dcem.CEMPlanner", "horizon": 4}
    assert given_in(["--model=lit_dcem.PlanetPhase1"])["model"] == {"class_path": "lit_dcem.PlanetPhase1"}


def test_sizes_that_are_written_down_stay():
    typed = ["--model.world_model.observation_dim=3", "--model.world_model.action_dim=1", "--data.action_repeat=2"]
    assert completed(config("phase1"), *typed) == {}


@pytest.mark.parametrize(("env", "repeat"), [("cheetah-run", 4), ("hopper-hop", 2), ("Pendulum-v1", 1)])
def test_the_action_repeat_is_the_usual_one(env, repeat):
    assert completed(config("phase1"), f"--data.env={env}")["data"]["action_repeat"] == repeat


@pytest.mark.parametrize(
    "typed", ["--data.env=cheetah-run", "--data.init_args.action_repeat=2", '--data.env_options={"a": 1}']
)
def test_another_task_than_that_of_the_phase_before_is_refused_before_its_sizes(typed):
    phase = ["--model.start=swingup_phase1_1", typed]
    with pytest.raises(UsageError, match=r"must have the task of .*, cartpole-swingup with action repeat 8 in"):
        completed(config("swingup_phase2"), *phase)
    completed(config("swingup_phase2"), *phase, "--ckpt_path=swingup_phase2_1")  # a resumed run is past its start


def test_a_later_phase_has_the_parts_and_the_task_of_the_one_before():
    found = completed(config("swingup_phase2"), "--model.start=swingup_phase1_1")
    assert found["data"]["env"] == "cartpole-swingup" and found["data"]["action_repeat"] == 8
    assert found["model"]["world_model"]["rssm"]["deter_dim"] == 100
    assert found["model"]["seed_planner"]["solver"]["num_candidates"] == 100
    assert found["model"]["planner"]["decoder"]["action_dim"] == 1
    found = completed(config("swingup_phase3"), "--model.start=swingup_phase2_1")
    assert found["model"]["planner"]["decoder"]["latent_dim"] == 4
    assert found["model"]["policy_gradient"]["action_dim"] == 1
    assert found["model"]["policy_gradient"]["value"]["deter_dim"] == 100


def test_what_a_config_states_comes_later_and_wins():
    first = completed(config("phase3"), "--model.start=swingup_phase2_1")
    stated = plain(yaml.safe_load((CONFIGS / "phase3.yaml").read_text()))
    planner = merged(first, stated)["model"]["planner"]
    assert planner["solver"]["temperature"] == 0.1 and planner["solver"]["num_candidates"] == 20


def test_a_run_that_is_resumed_needs_no_start_any_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["--model.start=gone.ckpt", "--ckpt_path=swingup_phase2_1"]
    assert completed(config("swingup_phase2"), *typed)["model"]["planner"]["decoder"]["latent_dim"] == 4


def test_a_start_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"got runs/phase1"):
        missing(["fit", config("phase2")])


def test_an_unknown_environment_is_one_sentence():
    with pytest.raises(UsageError, match=r"An environment must be .*, got nope"):
        missing(["fit", config("phase1"), "--data.env=nope"])


@pytest.mark.parametrize("name", ["cartpole", "regression", "cartpole_paper"])
def test_configs_without_an_environment_are_complete(name):
    assert completed(config(name)) == {}


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["--config=nowhere.yaml"], ["--model=Nothing"], ["--model=math.pi"], ["--data.env"]]
)
def test_what_makes_no_sense_is_left_to_the_parser(words):
    assert missing(["fit", *words]) == {}


def test_configs_that_are_typed_count():
    typed = json.dumps({"data": {"init_args": {"env": "Pendulum-v1"}}})
    assert completed(config("phase1"), f"--config={typed}")["model"]["world_model"]["observation_dim"] == 3


def test_a_class_that_is_typed_gets_its_sizes():
    found = completed(config("phase1"), "--model.world_model=lit_dcem.WorldModel")
    assert found["model"]["world_model"]["observation_dim"] == 17


def test_classes_get_only_options_that_they_take(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    model = {"class_path": "own_models.Model", "init_args": {"hidden_dim": 20}}
    found = completed(config("phase1"), f"--model.world_model={json.dumps(model)}")
    assert set(found["model"]["world_model"]) == {"class_path", "action_dim"}
    found = completed(config("phase2"), "--model=own_models.Phase", "--model.start=swingup_phase1_1")
    assert "seed_planner" not in found["model"]


OWN = """
from lit_dcem import PlanetPhase2, WorldModel


class Model(WorldModel):
    def __init__(self, action_dim: int, hidden_dim: int = 8) -> None:
        super().__init__(17, action_dim, hidden_dim)


class Phase(PlanetPhase2):
    def __init__(self, world_model: WorldModel, start: str) -> None: ...
"""


def test_the_newest_run_is_looked_for_where_it_is_logged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "out/swingup_phase2/version_0/checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes((shipped("checkpoints") / "swingup_phase2_1.ckpt").read_bytes())
    typed = ["--model.start=gone.ckpt", "--ckpt_path=last", "--trainer.logger.save_dir=out"]
    assert completed(config("swingup_phase2"), *typed)["model"]["planner"]["decoder"]["latent_dim"] == 4
