"""Planners that know the reward: a function of observations and actions in place of the learned one."""

import json

import numpy as np
import pytest
import torch
from support.planning import ACTIONS, SEARCH, some_belief, world_model
from torch.testing import assert_close

from lit_dcem import DCEM, ActionDecoder, CEMPlanner, LatentPlanner, load_controller
from lit_dcem.cli.main import main
from lit_dcem.envs.suite import suite  # that of dm_control, imported without OpenGL
from lit_dcem.errors import UsageError
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.planning.problem import Noise, Problem
from lit_dcem.training.checkpoint import Checkpoint

TARGET = torch.tensor([0.6, -0.2])
OWN = """
def quiet(observation, action):
    return 1 - action.square().sum(-1)
"""


def near(observation, action):
    return -(action - TARGET).square().sum(-1) + 0 * observation[..., 0]


def mixed(observation, action):
    return observation[..., 1] * action[..., 0] - observation.square().sum(-1)


def planner(known_reward, **options):
    return CEMPlanner(DCEM(**SEARCH), 3, known_reward=known_reward, **options)


def returns(chosen, model, belief, actions):
    problem = Problem(model, belief, None, Noise(torch.Generator().manual_seed(0), common=True))
    return -chosen.objective(problem)(actions.flatten(2))


def test_the_best_actions_of_a_known_reward_are_found_with_no_learned_one():
    model, belief = world_model(), some_belief(2)
    torch.nn.init.constant_(model.reward_head.rest[-1].bias, torch.nan)  # it is not asked
    actions = planner(near).act(model, belief, seed=0)
    assert_close(actions, TARGET.expand_as(actions), rtol=0, atol=0.02)


def test_it_is_of_the_observation_that_an_action_leads_to():
    model, belief, actions = world_model(), some_belief(2), torch.rand(2, 4, 3, ACTIONS) * 2 - 1
    ours = returns(planner(mixed, sample=False), model, belief, actions)
    begin, moves = Belief(*(part.unsqueeze(1) for part in belief)), actions.permute(2, 0, 1, 3)
    after = model.rssm.imagine(begin, moves, sample=False)
    assert_close(ours, mixed(model.observation(after), moves).sum(0))


def test_a_decoder_learns_through_it():
    model, belief = world_model().double(), Belief(*(part.double() for part in some_belief(1)))
    decoder = ActionDecoder(2, 3, ACTIONS, hidden_dim=8).double()
    chosen = LatentPlanner(decoder, DCEM(**{**SEARCH, "temperature": 1.0}), known_reward=mixed, sample=False)
    points = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    problem = Problem(model, belief, None, Noise(torch.Generator().manual_seed(0)))
    assert torch.autograd.gradcheck(chosen.objective(problem), points)


def test_it_must_return_a_number_for_each_action():
    with pytest.raises(ValueError, match=r"must return a number for each action, of shape \[2, 200\], got"):
        planner(lambda observation, action: action).act(world_model(), some_belief(2), seed=0)
    with pytest.raises(ValueError, match="known_reward must be a function of observations and actions, got 3"):
        planner(3)


@pytest.mark.slow
def test_a_config_names_it_and_a_checkpoint_plans_with_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "quiet_rewards.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    line = ["fit", "--config=swingup_phase1", "--config=debug", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    line += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    main([*line, "--model.planner.known_reward=quiet_rewards.quiet"])
    run = "runs/swingup_phase1/version_0"
    main([*line, "--model.planner.known_reward=quiet_rewards.quiet", "--ckpt_path=last", "--trainer.max_epochs=2"])
    with pytest.raises(UsageError, match="add --trust quiet_rewards"):  # a function, which could do anything
        Checkpoint.read(run).module()
    assert Checkpoint.read(run, trust=["quiet_rewards"]).module().planner.options.known_reward.__name__ == "quiet"
    main(["evaluate", "--checkpoint", run, "--episodes=1", "--out=out.json", "--trust=quiet_rewards"])
    assert json.loads((tmp_path / "out.json").read_text())["results"]
    controller = load_controller(run, trust=["quiet_rewards"])
    controller.act(suite.load("cartpole", "swingup").reset().observation)
    plan = controller.plan
    np.testing.assert_allclose(plan.rewards, 1 - np.square(plan.actions).sum(-1), rtol=1e-5)
    with pytest.raises(SystemExit) as exit_:
        main([*line, "--model.planner.known_reward=quiet_rewards.loud"])
    assert exit_.value.code == 2
    assert "known_reward must be a class or function that fits, got another" in capsys.readouterr().err
