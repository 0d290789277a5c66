"""The full-space expert and the PCA baseline of the cartpole."""

import pytest
import torch
from torch.testing import assert_close

from lit_dcem import DCEM, CartpoleEmbedding, FullSpacePlanner, PCAPlanner, UnrolledGD
from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.cartpole.planners import CartpolePlanner
from lit_dcem.cartpole.states import initial_states, validation_states
from lit_dcem.embedding.decoder import ActionDecoder
from lit_dcem.errors import UsageError

BOUNDS = {"lower": -100.0, "upper": 100.0}
TINY = {"num_candidates": 20, "num_elites": 4, "num_iterations": 2}


def expert(answer="mean", horizon=20, **options) -> FullSpacePlanner:
    return FullSpacePlanner(DCEM(temperature=0.0, **BOUNDS, **options), horizon=horizon, answer=answer)


def pca(**options) -> PCAPlanner:
    return PCAPlanner(expert(**TINY), **{"num_solutions": 30, "grid_size": 11, **options})


def cost(planner, states):
    return rollout_cost(states, planner(states).unsqueeze(1)).squeeze(1)


def test_the_papers_expert_costs_what_the_paper_says():
    torch.manual_seed(0)
    planner = expert(num_candidates=100, num_elites=10, num_iterations=30)
    # -9.04 is the mean over solver seeds, whose standard deviation is 0.17.
    assert cost(planner, validation_states()).mean().item() == pytest.approx(-9.04, abs=0.6)


def test_more_trajectories_make_a_stronger_expert():
    torch.manual_seed(0)
    planner = expert(num_candidates=1000, num_elites=10, num_iterations=10)
    assert cost(planner, validation_states()[:40]).mean() < cost(expert(**TINY), validation_states()[:40]).mean() - 2


def test_an_upright_pole_at_rest_costs_nothing_to_keep():
    state = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]])
    torch.manual_seed(0)
    # Any force costs something, so -20 is the optimum.
    assert -20 <= cost(expert(num_candidates=300, num_elites=10, num_iterations=20), state).item() < -19.9


def test_the_best_point_of_the_same_search_is_at_least_as_good():
    states = initial_states(10, torch.Generator().manual_seed(3))
    best, mean = (cost(expert(answer, **TINY), states) for answer in ("best", "mean") if torch.manual_seed(0))
    assert (best <= mean).all() and (best < mean).any()


def test_noise_comes_from_the_generator_if_there_is_one():
    planner, states = expert(**TINY), validation_states()[:3]
    before = torch.get_rng_state()
    first, again = (planner(states, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), before)


def test_plans_have_no_graph_and_the_states_precision():
    states = validation_states()[:2].double().requires_grad_()
    forces = expert(horizon=7, **TINY)(states)
    assert forces.shape == (2, 7) and forces.dtype == torch.float64 and not forces.requires_grad


@pytest.mark.parametrize(
    ("options", "says"), [({"horizon": 0}, "at least 1, got 0."), ({"initial_std": 0.0}, "finite, got 0.0.")]
)
def test_impossible_experts_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        FullSpacePlanner(DCEM(), **options)


def test_trajectories_are_counted():
    assert expert(num_candidates=[30, 20], num_elites=5, num_iterations=2).num_trajectories == 50
    assert FullSpacePlanner(DCEM()).num_trajectories == 1000
    assert FullSpacePlanner(DCEM(), answer="best").num_trajectories == 1001
    assert CartpoleEmbedding(ActionDecoder(2, 20), DCEM(**TINY)).num_trajectories == 40
    assert pca(latent_dim=3).num_trajectories == 11**3


def test_a_planner_of_ones_own_need_not_count_trajectories():
    class Still(CartpolePlanner):
        def forward(self, states):
            return states.new_zeros(len(states), 20)

    assert Still().num_trajectories is None


def test_pca_finds_a_planted_plane_and_its_box():
    draw = torch.Generator().manual_seed(0)
    planted = torch.linalg.qr(torch.randn(20, 2, generator=draw)).Q.T
    scores = (torch.rand(500, 2, generator=draw) - 0.3) * torch.tensor([200.0, 50.0])
    solutions = 5 + scores @ planted
    planner = pca()
    planner.fit_to(solutions)
    assert_close(planner.components.T @ planner.components, planted.T @ planted, rtol=0, atol=1e-4)
    assert_close(planner.components @ planner.components.T, torch.eye(2), rtol=0, atol=1e-5)
    assert planner.scale[0] > 3 * planner.scale[1]
    latents = (solutions - planner.centre) @ planner.components.T / planner.scale
    assert_close(planner.decode(latents), solutions, rtol=0, atol=1e-3)
    assert_close(torch.stack(latents.aminmax(dim=0)), torch.tensor([[-1.0, -1], [1, 1]]), rtol=0, atol=1e-4)


def test_the_expert_of_pca_may_be_any_solver():
    planner = PCAPlanner(FullSpacePlanner(UnrolledGD(num_steps=2)), num_solutions=5, grid_size=3)
    planner.fit()
    assert planner(torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]])).shape == (1, 20)


def test_pca_plans_with_the_cheapest_point_of_its_grid():
    planner, states = pca(), validation_states()[:5]
    forces = planner(states)
    assert planner.grid().shape == (121, 2) and len(planner.grid().unique(dim=0)) == 121
    every = rollout_cost(states, planner.decode(planner.grid()).expand(5, -1, -1))
    assert_close(rollout_cost(states, forces.unsqueeze(1)).squeeze(1), every.amin(1))
    assert planner.decode(torch.zeros(2, 3, 2)).shape == (2, 3, 20)


def test_the_fit_is_lazy_reproducible_and_leaves_the_global_noise_alone():
    before = torch.get_rng_state()
    first, again, other = pca(), pca(), pca(seed=1)
    assert not first.is_fitted
    forces = [planner(validation_states()[:3]) for planner in (first, again, other)]
    assert first.is_fitted and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(forces[0], forces[1]) and not torch.equal(forces[0], forces[2])


def test_a_fit_is_saved_and_loaded(tmp_path, monkeypatch):
    planner, path = pca(), tmp_path / "pca.pt"
    forces = planner(validation_states()[:3])
    torch.save(planner.state_dict(), path)
    monkeypatch.setattr(PCAPlanner, "fit", None)
    assert torch.equal(pca(weights=str(path))(validation_states()[:3]), forces)
    for arguments in ({"weights": str(path), "latent_dim": 1}, {"weights": "nowhere.pt"}):
        with pytest.raises(UsageError, match=r"^weights must be a file with .*, got .*\.$"):
            pca(**arguments)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latent_dim": 0}, "latent_dim must be between 1 and the expert's horizon, got 0 and 20."),
        ({"latent_dim": 21, "grid_size": 1}, "got 21 and 20."),
        ({"num_solutions": 2}, "num_solutions must be above latent_dim, got 2 and 2."),
        ({"grid_size": 1001}, "at most 1,000,000, got 1001 for 2 components."),
        ({"grid_size": 1}, "at least 2"),
    ],
)
def test_impossible_pcas_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        pca(**options)
