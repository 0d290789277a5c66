"""The cartpole against golden rollouts, its gradients, and the states it starts from."""

import json
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.testing import assert_close

from lit_dcem import dcem
from lit_dcem.cartpole import dynamics
from lit_dcem.cartpole.dynamics import MAX_FORCE, reward, rollout_cost, step
from lit_dcem.cartpole.states import CartpoleStates, held_out_states, initial_states, validation_states

GOLDEN = json.loads((Path(__file__).with_name("golden.json")).read_text())
EXACT = {"rtol": 0, "atol": 1e-10}


def golden(name: str) -> Tensor:
    return torch.tensor([rollout[name] for rollout in GOLDEN["rollouts"]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_states(count: int = 3) -> Tensor:
    return initial_states(count, generator()).double()


def some_actions(*shape: int, limit: float = 90.0) -> Tensor:
    return (torch.rand(shape, generator=generator(), dtype=torch.float64) * 2 - 1) * limit


def cost_step_by_step(state: Tensor, actions: Tensor) -> Tensor:
    """The definition: ``[..., 5]`` and ``[..., H]`` to ``[...]``."""
    cost = torch.zeros(state.shape[:-1], dtype=state.dtype)
    for force in actions.unbind(-1):
        cost = cost - reward(state, force)
        state = step(state, force)
    return cost


def test_steps_follow_the_golden_rollouts():
    states, actions, rewards = golden("states"), golden("actions"), golden("rewards")
    state = states[:, 0]
    for t, force in enumerate(actions.unbind(1)):
        assert_close(reward(state, force), rewards[:, t], **EXACT)
        state = step(state, force)
        assert_close(state, states[:, t + 1], **EXACT)


def test_costs_are_the_golden_ones():
    states, actions, totals = golden("states"), golden("actions"), golden("total")
    assert_close(rollout_cost(states[:, 0], actions.unsqueeze(1)), -totals.unsqueeze(1), **EXACT)
    single = rollout_cost(states[:, 0].float(), actions.unsqueeze(1).float())
    assert_close(single, -totals.unsqueeze(1).float(), rtol=1e-4, atol=1e-4)


def test_every_candidate_of_every_state_is_rolled_out():
    states, actions = some_states(4), some_actions(4, 3, 20, limit=150.0)
    expected = cost_step_by_step(states.unsqueeze(1).expand(-1, 3, -1), actions)
    assert_close(rollout_cost(states, actions), expected, **EXACT)


def test_never_acting_costs_what_the_facts_say():
    cost = rollout_cost(validation_states(), torch.zeros(100, 1, 20)).mean()
    assert cost.item() == pytest.approx(5.56, abs=0.005)


def test_an_upright_pole_at_rest_stays():
    state = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    assert_close(step(state, torch.tensor(0.0)), state)
    assert rollout_cost(state, torch.zeros(1, 20)).item() == pytest.approx(-20)


def test_full_turns_and_the_angle_beyond_pi_are_one_circle():
    state = torch.tensor([0.0, 0.0, -math.cos(0.1), math.sin(0.1), 8.0])
    angle = math.pi - 0.1 + 0.05 * 8.0
    assert_close(step(state, torch.tensor(0.0))[2:4], torch.tensor([math.cos(angle), math.sin(angle)]))


def test_dynamics_clamp_the_force_and_the_reward_does_not():
    states = some_states()
    bound, beyond = torch.full((3,), MAX_FORCE), torch.full((3,), 150.0)
    for sign in (-1, 1):
        assert torch.equal(step(states, sign * beyond), step(states, sign * bound))
        assert not torch.equal(step(states, sign * bound), step(states, sign * bound * 0.99))
    saved = reward(states, bound) - reward(states, beyond)
    assert_close(saved, torch.full((3,), 1e-5 * (150.0**2 - 100.0**2), dtype=torch.float64))


def test_beyond_the_bound_only_the_cost_of_force_has_a_gradient():
    actions = torch.full((3, 1, 20), 150.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(rollout_cost(some_states(), actions).sum(), actions)
    assert_close(gradient, torch.full_like(gradient, 2e-5 * 150.0))


def test_the_last_two_actions_come_too_late_for_more_than_their_own_cost():
    actions = some_actions(3, 2, 20).requires_grad_()
    (gradient,) = torch.autograd.grad(rollout_cost(some_states(), actions).sum(), actions)
    late = (gradient - 2e-5 * actions).abs() < 1e-12
    assert late[..., -2:].all() and not late[..., :-2].any()


def test_gradients_match_finite_differences():
    states, actions = some_states(2).requires_grad_(), some_actions(2, 2, 5).requires_grad_()
    assert torch.autograd.gradcheck(rollout_cost, (states, actions))
    assert torch.autograd.gradgradcheck(rollout_cost, (states[:1, :], actions[:1, :1, :3]))
    forces = some_actions(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, f: (step(s, f), reward(s, f)), (states, forces))


def test_any_leading_dimensions():
    states, actions = some_states(6), some_actions(6, 4, 7)
    assert step(states[0], actions[0, 0, 0]).shape == (5,)
    assert reward(states.view(2, 3, 5), actions[..., 0, 0].view(2, 3)).shape == (2, 3)
    costs = rollout_cost(states, actions)
    assert costs.shape == (6, 4)
    assert torch.equal(rollout_cost(states.view(2, 3, 5), actions.view(2, 3, 4, 7)), costs.view(2, 3, 4))
    assert_close(rollout_cost(states[0], actions[0]), costs[0])
    assert rollout_cost(states, actions[..., :1]).shape == (6, 4)


def test_half_precision_actions_are_rolled_out_in_the_states_precision():
    states, actions = some_states().float(), some_actions(3, 4, 20).bfloat16()
    assert_close(rollout_cost(states, actions), rollout_cost(states, actions.float()), rtol=0, atol=0)


def test_function_transforms():
    states, actions = some_states(), some_actions(3, 4, 20)
    assert_close(vmap(rollout_cost)(states, actions), rollout_cost(states, actions))
    expected = actions.clone().requires_grad_()
    rollout_cost(states, expected).sum().backward()
    assert_close(grad(lambda a: rollout_cost(states, a).sum())(actions), expected.grad)


def test_compiles_as_one_graph():
    torch.compiler.reset()
    states, actions = some_states(), some_actions(3, 4, 20)
    compiled = torch.compile(rollout_cost, fullgraph=True, backend="eager")
    assert_close(compiled(states, actions), rollout_cost(states, actions))
    torch.compiler.reset()


def test_is_an_objective_of_the_solver():
    states, start = validation_states()[:4], torch.zeros(4, 20)
    options = {"lower": -MAX_FORCE, "upper": MAX_FORCE, "temperature": 0.0, "generator": generator()}
    found = dcem(lambda actions: rollout_cost(states, actions), start, start + 100, **options)
    assert found.value.mean() < rollout_cost(states, start.unsqueeze(1)).mean() - 10


def test_validation_states_are_the_golden_hundred():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert_close(validation_states(), torch.tensor(GOLDEN["validation_states"]), rtol=0, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_states_fill_their_ranges():
    x, dx, cos, sin, w = initial_states(10_000, generator()).double().unbind(-1)
    assert_close(cos.square() + sin.square(), torch.ones_like(cos))
    for value, limit in ((x, 0.5), (dx, 0.5), (torch.atan2(sin, cos), math.pi), (w, 1.0)):
        assert value.abs().max() <= limit + 1e-6
        assert value.mean().abs() < 0.05 * limit
        assert value.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.03)


def test_states_do_not_depend_on_the_default_dtype():
    expected = initial_states(5, generator())
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(initial_states(5, generator()), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def batches(**options) -> list[Tensor]:
    return list(CartpoleStates(**{"batch_size": 4, "updates_per_epoch": 3, "seed": 0, **options}).train_dataloader())


def test_the_stream_is_fresh_and_its_seed_decides_it():
    first, again, other = batches(), batches(), batches(seed=1)
    assert [batch.shape for batch in first] == [(4, 5)] * 3
    assert_close(first, again, rtol=0, atol=0)
    assert len({tuple(state) for batch in first + other for state in batch.tolist()}) == 2 * 3 * 4


def test_ranks_see_different_states(monkeypatch):
    seen = []
    for rank in (0, 1):
        data = CartpoleStates(seed=0)
        data.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", barebones=True)
        monkeypatch.setattr(type(data.trainer), "global_rank", rank)
        seen.append(next(iter(data.train_dataloader())))
    assert not torch.isin(seen[0], seen[1]).any()


def test_the_stream_resumes_where_it_stood():
    data = CartpoleStates(batch_size=4, updates_per_epoch=3)
    stream = data.train_dataloader()
    whole = [*stream, *stream, *stream]
    torch.manual_seed(torch.initial_seed() + 1)
    resumed = CartpoleStates(batch_size=4, updates_per_epoch=3)
    resumed.load_state_dict(data.state_dict())
    rest = resumed.train_dataloader()
    rest.load_state_dict({"position": 4})
    assert_close(list(rest), whole[4:7], rtol=0, atol=0)


def test_validation_and_test_hold_states_of_their_own():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    data = CartpoleStates()
    validation, test = torch.cat(list(data.val_dataloader())), torch.cat(list(data.test_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(validation, validation_states())
    assert torch.equal(test, held_out_states())
    trained = torch.cat(batches(batch_size=100))
    assert len(torch.cat([validation, test, trained]).unique(dim=0)) == 100 + 1000 + 300


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"updates_per_epoch": 0}])
def test_impossible_sizes_are_refused(options):
    with pytest.raises(ValueError, match=r"^batch_size and updates_per_epoch must be at least 1, got \d+ and \d+\.$"):
        CartpoleStates(**options)


def test_wider_ranges_are_those_of_training_alone():
    wide = torch.cat(batches(batch_size=1000, ranges=(1.0, 4.0, math.pi, 8.0)))
    assert wide[:, 1].abs().max() > 3.9
    assert wide[:, 4].abs().max() > 7.9
    assert torch.equal(
        torch.cat(list(CartpoleStates(ranges=(1.0, 4.0, 0.0, 8.0)).val_dataloader())), validation_states()
    )


@pytest.mark.parametrize("ranges", [(1.0, 1.0), (1.0, 1.0, math.inf, 1.0), (-1.0, 1.0, 1.0, 1.0)])
def test_impossible_ranges_are_refused(ranges):
    with pytest.raises(ValueError, match=r"^ranges must be four finite numbers of at least 0, got \["):
        CartpoleStates(ranges=ranges)


@pytest.mark.parametrize("horizon", [1, 2, 20])
def test_a_small_rollout_and_its_derivatives_are_those_of_the_plain_one(monkeypatch, horizon: int) -> None:
    states = initial_states(3, generator()).double()
    forces = 80 * torch.randn(3, 5, horizon, generator=generator(1), dtype=torch.float64)
    forces.requires_grad_()

    def derivatives() -> list[Tensor]:
        cost = rollout_cost(states, forces)
        (first,) = torch.autograd.grad(cost.sin().sum(), forces, retain_graph=True)
        (again,) = torch.autograd.grad(cost.sin().sum(), forces, create_graph=True)
        return [cost, first, again, *torch.autograd.grad(again.square().sum(), forces)]

    small = derivatives()
    assert_close(small[1], small[2], rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(dynamics, "suits_arrays", lambda tensor: False)
    assert_close(small, derivatives(), rtol=1e-9, atol=1e-12)
