"""What a config leaves open comes from its environment, and from the run that it starts from."""

import json
from pathlib import Path

import pytest
import yaml

from lit_dcem.cli.completing import complete
from lit_dcem.cli.configs import merged, plain
from lit_dcem.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"


def completed(*arguments):
    """The config that is put in front, in short form; empty if there is none."""
    words = ["fit", *arguments]
    found = complete(words)
    if found == words:
        return {}
    assert found[0] == "fit" and found[2:] == list(arguments)
    return plain(json.loads(found[1].removeprefix("--config=")))


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


def test_options_of_the_environment_count():
    options = '--data.env_options={"environment_kwargs": {"flat_observation": true}}'
    assert completed(config("phase1"), options)["model"]["world_model"]["observation_dim"] == 17


def test_sizes_that_are_written_down_stay():
    typed = ["--model.world_model.observation_dim=3", "--model.world_model.action_dim=1"]
    assert completed(config("phase1"), *typed) == {}


def test_a_later_phase_has_the_parts_and_the_task_of_the_one_before():
    found = completed(config("swingup_phase2"), "--model.start=swingup_phase1_0")
    assert found["data"]["env"] == "cartpole-swingup" and found["data"]["action_repeat"] == 8
    assert found["model"]["world_model"]["rssm"]["deter_dim"] == 100
    assert found["model"]["seed_planner"]["solver"]["num_candidates"] == 100
    assert found["model"]["planner"]["decoder"]["action_dim"] == 1
    found = completed(config("swingup_phase3"), "--model.start=swingup_phase2_0")
    assert found["model"]["planner"]["decoder"]["latent_dim"] == 4
    assert found["model"]["policy_gradient"]["action_dim"] == 1


def test_what_a_config_states_comes_later_and_wins():
    words = complete(["fit", config("phase3"), "--model.start=swingup_phase2_0"])
    first = plain(json.loads(words[1].removeprefix("--config=")))
    stated = plain(yaml.safe_load((CONFIGS / "phase3.yaml").read_text()))
    planner = merged(first, stated)["model"]["planner"]
    assert planner["solver"]["temperature"] == 0.1 and planner["solver"]["num_candidates"] == 20


def test_a_run_that_is_resumed_needs_no_start_any_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["--model.start=gone.ckpt", "--ckpt_path=swingup_phase2_0"]
    assert completed(config("swingup_phase2"), *typed)["model"]["planner"]["decoder"]["latent_dim"] == 4


def test_a_start_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"got runs/phase1"):
        complete(["fit", config("phase2")])


def test_an_unknown_environment_is_one_sentence():
    with pytest.raises(UsageError, match=r"An environment must be .*, got nope"):
        complete(["fit", config("phase1"), "--data.env=nope"])


@pytest.mark.parametrize("name", ["cartpole", "regression", "cartpole_paper"])
def test_configs_without_an_environment_are_complete(name):
    assert completed(config(name)) == {}


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["--config=nowhere.yaml"], ["--model=Nothing"], ["--model=math.pi"], ["--data.env"]]
)
def test_what_makes_no_sense_is_left_to_the_parser(words):
    assert complete(["fit", *words]) == ["fit", *words]
