"""Planning over the latent vectors of a decoder, in a model of one's own."""

import pytest
import torch
from torch.testing import assert_close

from lit_dcem import DCEM, ActionDecoder, EmbeddingLoss, Planner

CEM = DCEM(num_candidates=30, num_elites=5, num_iterations=3, temperature=0.0)
STATE = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [0.2, -1.0]])


class PointMass:
    """A state is position and velocity, an action is a force."""

    def step(self, state, action):
        position, velocity = state.unbind(-1)
        return torch.stack([position + 0.2 * velocity, velocity + 0.2 * action[..., 0]], -1)

    def reward(self, state, action):
        return -state.square().sum(-1) - 0.1 * action[..., 0].square()


def decoder(**options):
    torch.manual_seed(0)
    return ActionDecoder(**{"latent_dim": 2, "horizon": 8, "hidden_dim": 16, "num_layers": 1, **options})


def planner(model, solver=CEM, **options):
    return Planner(PointMass(), solver, 8, 1, decoder=model, **options)


@pytest.mark.parametrize("condition_dim", [0, 2])
@pytest.mark.parametrize("answer", ["mean", "best"])
def test_a_plan_is_what_the_decoder_makes_of_the_answer(condition_dim, answer):
    made = decoder(condition_dim=condition_dim)
    plan = planner(made, lower=-1.0, upper=1.0, answer=answer)(STATE)
    latent = plan.solution.best if answer == "best" else plan.solution.mean
    assert latent.shape == (3, 2) and (latent.abs() <= 1).all()
    actions = made(latent, STATE if condition_dim else None)
    assert_close(plan.actions, actions)
    assert_close(plan.value, planner(None).returns(STATE, actions.unsqueeze(1)).squeeze(1))


def test_each_problem_is_decoded_for_its_own_state():
    search = planner(decoder(condition_dim=2), CEM.replace(common_noise=True))
    together = search(STATE, generator=torch.Generator().manual_seed(0)).actions
    alone = search(STATE[1:2], generator=torch.Generator().manual_seed(0)).actions
    assert_close(together[1:2], alone)


def test_the_next_search_begins_at_the_last_latent_vectors():
    search = planner(decoder(), CEM.replace(trace=True), lower=-1.0, upper=1.0)
    first = search(STATE)
    begin = search(STATE, first.memory).solution.trace[0]
    assert_close(begin.mean, first.solution.mean)
    assert (begin.candidates == first.solution.best.unsqueeze(1)).all(-1).any(-1).all()


def test_a_decoder_learns_from_the_searches_of_its_planner():
    made = decoder(condition_dim=2)
    search = planner(made, DCEM(num_candidates=20, num_elites=5, num_iterations=2, trace=True))
    assert set(made.parameters()) == set(search.parameters())
    optimizer, costs = torch.optim.Adam(made.parameters(), lr=1e-2), []
    for _ in range(30):
        loss = EmbeddingLoss()(search.objective(STATE), search(STATE).solution)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    best = -planner(None, CEM.replace(num_iterations=20))(STATE).value.mean()  # over the actions themselves
    assert costs[0] - best > 5 * (costs[-1] - best) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": decoder(horizon=7)}, "the planner's horizon and action_dim, 8 and 1, got 7 and 1."),
        ({"decoder": decoder(action_dim=2)}, "the planner's horizon and action_dim, 8 and 1, got 8 and 2."),
        ({"decoder": decoder(blends_rest=True)}, "must not blend in the rest of a plan, got blends_rest=True."),
        ({"decoder": 3}, "A decoder must have the sizes of ActionDecoder, got int."),
        ({"decoder": decoder(), "knots": 4}, "A planner with a decoder must have no knots, got 4."),
        ({"decoder": decoder(), "proposals": lambda state: state}, "a decoder must have no proposals, got some."),
        ({"decoder": decoder(), "lower": [0.0] * 3}, r"lower must broadcast against \[2\], got \[3\]."),
    ],
)
def test_decoders_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Planner(PointMass(), CEM, 8, 1, **options)


def test_a_condition_needs_states_of_its_size():
    search = planner(decoder(condition_dim=3))
    with pytest.raises(ValueError, match=r"states that are a tensor \[B, 3\], got \[3, 2\]."):
        search(STATE)
    with pytest.raises(ValueError, match=r"states that are a tensor \[B, 3\], got tuple."):
        search((STATE, STATE))
