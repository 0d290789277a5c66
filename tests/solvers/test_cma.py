"""Full covariances: known optima, invariance, independent rows, gradients, and degenerate fits."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from lit_dcem import cma, minimize
from lit_dcem.solvers.cma import CMA, rates_of
from lit_dcem.solvers.distributions import Distribution, Gaussian
from lit_dcem.solvers.full_gaussian import FullGaussian
from lit_dcem.solvers.lml import lml
from lit_dcem.solvers.weights import LogRank, SoftTopK, TopK

DISTRIBUTIONS = [FullGaussian(), FullGaussian(momentum=0.3, min_std=0.1), CMA(), CMA(restart_below=0.9)]
ACTIVE = LogRank(negative=True)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotations(batch: int, dim: int) -> Tensor:
    return torch.linalg.qr(normal(batch, dim, dim, seed=9)).Q


def ellipsoid(x: Tensor) -> Tensor:
    return (torch.logspace(0, 4, x.shape[-1], dtype=x.dtype) * (x - 1).square()).sum(-1)


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[..., 1:] - x[..., :-1].square()).square() + (1 - x[..., :-1]).square()).sum(-1)


def search(distribution: Distribution, weighting, objective, noises: Tensor, std: float = 1.0, rows: int = 2):
    """States of a search with the given noise ``[T, B or 1, N, D]``, the first one included, and all values."""
    zeros = noises.new_zeros(rows, noises.shape[-1])
    states, values = [distribution.begin(zeros, zeros + std)], []
    for noise in noises:
        candidates = distribution.sample(states[-1], noise)
        values.append(objective(candidates))
        states.append(distribution.fit(states[-1], candidates, weighting(-values[-1])))
    return states, torch.cat(values, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cma_finds_the_optimum_of_a_rotated_ellipsoid(dtype: torch.dtype) -> None:
    turn = rotations(2, 5).to(dtype)
    _, values = search(CMA(), ACTIVE, lambda x: ellipsoid(x @ turn), normal(300, 2, 8, 5, dtype=dtype))
    assert values.amin(1).amax() < (1e-12 if dtype == torch.float64 else 1e-8)


def test_cma_finds_the_optimum_of_rosenbrock_where_cem_does_not() -> None:
    noises = normal(400, 2, 8, 4)
    assert search(CMA(), ACTIVE, rosenbrock, noises)[1].amin(1).amax() < 1e-10
    assert search(Gaussian(), TopK(3), rosenbrock, noises)[1].amin(1).amin() > 0.1


def test_a_full_gaussian_beats_a_diagonal_one_on_a_rotated_ellipsoid() -> None:
    turn, noises = rotations(2, 5), normal(30, 2, 200, 5)
    full, diagonal = (
        search(d(), TopK(50), lambda x: ellipsoid(x @ turn), noises)[1].amin(1) for d in (FullGaussian, Gaussian)
    )
    assert full.amax() < 0.1 * diagonal.amin()


def test_cma_does_not_depend_on_the_rotation() -> None:
    """The rotated problem, with rotated noise, has rotated iterates."""
    turn, noises = rotations(2, 5), normal(40, 2, 8, 5)
    plain, values = search(CMA(), ACTIVE, ellipsoid, noises)
    turned, same = search(CMA(), ACTIVE, lambda x: ellipsoid(x @ turn), noises @ turn.mT)
    assert_close(same, values, rtol=1e-5, atol=1e-9)
    rotated_back = (turned[-1].mean.unsqueeze(1) @ turn).squeeze(1)
    assert_close(rotated_back, plain[-1].mean, rtol=1e-5, atol=1e-7)


def test_cma_depends_on_ranks_alone() -> None:
    noises = normal(40, 2, 8, 5)
    plain, _ = search(CMA(), ACTIVE, ellipsoid, noises)
    other, _ = search(CMA(), ACTIVE, lambda x: ellipsoid(x).sqrt() - 7, noises)
    assert torch.equal(plain[-1].mean, other[-1].mean)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_rows_are_independent(distribution: Distribution) -> None:
    noises = normal(12, 3, 20, 4)
    together, _ = search(distribution, TopK(8), rosenbrock, noises, rows=3)
    alone, _ = search(distribution, TopK(8), rosenbrock, noises[:, 1:2], rows=1)
    assert_close(together[-1].mean[1:2], alone[-1].mean, rtol=1e-9, atol=1e-12)
    assert_close(together[-1].std[1:2], alone[-1].std, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_gradients_match_finite_differences(distribution: Distribution) -> None:
    """Through two fits and the samples between, in the first distribution, the candidates and the scores."""
    noise = normal(2, 8, 2, seed=1)

    def answer(mean: Tensor, std: Tensor, candidates: Tensor, scores: Tensor) -> Tensor:
        state = distribution.fit(distribution.begin(mean, std), candidates, lml(scores, 4, 1.0))
        more = distribution.sample(state, noise)
        state = distribution.fit(state, more, lml(-rosenbrock(more) / 100, 4, 1.0))
        return torch.cat([state.mean, state.std], 1)

    inputs = (normal(2, 2), 0.7 + normal(2, 2, seed=2).square(), normal(2, 8, 2, seed=3), normal(2, 8, seed=4))
    assert gradcheck(answer, [each.requires_grad_() for each in inputs], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["no weights", "one weight", "equal candidates"])
def test_degenerate_fits_are_finite_and_so_are_their_gradients(distribution, dtype, case: str) -> None:
    weights = torch.ones(2, 6, dtype=dtype)
    candidates = normal(2, 6, 4, dtype=dtype)
    if case == "equal candidates":
        candidates = candidates[:, :1].expand(-1, 6, -1).clone()
    else:
        weights[0] = 0
        weights[0, 0] = float(case == "one weight")
    leaves = [each.requires_grad_() for each in (torch.zeros(2, 4, dtype=dtype), candidates, weights)]
    state = distribution.begin(leaves[0], torch.ones(2, 4, dtype=dtype))
    for _ in range(3):
        state = distribution.fit(state, leaves[1], leaves[2])
    outputs = (state.mean, state.std, distribution.sample(state, normal(1, 5, 4, dtype=dtype)))
    gradients = torch.autograd.grad(sum(each.square().sum() for each in outputs), leaves, materialize_grads=True)
    assert all(each.isfinite().all() for each in (*outputs, *gradients))


@pytest.mark.parametrize("distribution", [FullGaussian(), CMA(), CMA(restart_below=0.9)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("std", [0.0, 1e-30])
def test_a_search_without_width_stays_finite(distribution, dtype, std: float) -> None:
    states, _ = search(distribution, TopK(3), rosenbrock, normal(50, 2, 6, 4, dtype=dtype), std=std)
    for state in states:
        assert state.mean.isfinite().all() and state.std.isfinite().all() and (state.std > 0).all()


def test_a_full_gaussian_is_the_weighted_maximum_likelihood() -> None:
    candidates, weights = normal(2, 30, 3), normal(2, 30, seed=1).square()
    state = FullGaussian().fit(FullGaussian().begin(candidates[:, 0], candidates[:, 0].abs()), candidates, weights)
    for row in range(2):
        expected = torch.cov(candidates[row].T, correction=0, aweights=weights[row])
        assert_close(state.factor[row] @ state.factor[row].T, expected, rtol=1e-9, atol=1e-12)
    assert FullGaussian(min_std=9).fit(state, candidates, weights).std.amin() >= 9


def test_log_rank_weights() -> None:
    scores = torch.tensor([[0.3, 9.0, -1.0, -math.inf, 2.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, math.log(2.5), 0.0, 0.0, math.log(2.5 / 2)], dtype=torch.float64)
    assert_close(LogRank(2)(scores)[0], 2 * expected / expected.sum())
    assert torch.equal(LogRank()(scores), LogRank(2)(scores))
    signed = LogRank(2, negative=True)(scores)[0]
    assert signed[3] == 0 and signed[2] < signed[0] < 0 and torch.equal(signed[[1, 4]], LogRank(2)(scores)[0, [1, 4]])


def test_the_rates_are_those_of_the_tutorial() -> None:
    """By hand for 10 dimensions and 5 equal weights."""
    rates = rates_of(torch.full((1, 5), 0.2, dtype=torch.float64), 10)
    numbers = [5, 7 / 20, 1 + 7 / 20, 4.5 / 15, 2 / (11.3**2 + 5), 2 * 3.45 / 149]
    assert_close(torch.cat(rates, 1), torch.tensor([numbers], dtype=torch.float64))


def test_restarts_find_what_one_run_misses() -> None:
    def rastrigin(x: Tensor) -> Tensor:
        return ((x - 1.2).square() + 10 - 10 * torch.cos(2 * math.pi * (x - 1.2))).sum(-1)

    noises = normal(200, 6, 20, 2)
    once = search(CMA(), ACTIVE, rastrigin, noises, std=2.0, rows=6)[1].amin(1)
    often = search(CMA(restart_below=1e-6), ACTIVE, rastrigin, noises, std=2.0, rows=6)[1].amin(1)
    assert (once < 0.1).sum() == 0 and (often < 1e-8).sum() >= 3


def test_the_loop_finds_rosenbrock_within_bounds_and_leaves_broken_problems_alone() -> None:
    def objective(x: Tensor) -> Tensor:
        values = rosenbrock(x)
        broken = (x[..., 0] > 1.5) | (torch.arange(3) == 1).unsqueeze(1)  # here and there, and all of one problem
        return torch.where(broken, math.nan, values)

    options = {"lower": -2.0, "upper": 2.0, "num_candidates": 8, "num_iterations": 250, "standardize": False}
    generator = torch.Generator().manual_seed(0)
    solution = minimize(
        objective, torch.zeros(3, 3).double(), 0.5, weighting=ACTIVE, distribution=CMA(), generator=generator, **options
    )
    assert solution.best_value[[0, 2]].amax() < 1e-10 and solution.best_value[1].isnan()
    assert_close(solution.mean[[0, 2]], torch.ones(2, 3).double(), rtol=0, atol=1e-4)


def test_the_preset_uses_its_evaluations_and_any_option() -> None:
    solver = cma(10, 1000, lower=-2.0)
    assert solver.options["num_candidates"] == 10 and solver.num_evaluations == 1000
    assert solver.options["lower"] == -2 and not solver.is_differentiable
    assert cma(10, 999, population=4).num_evaluations == 960
    seeded = solver.replace(generator=torch.Generator().manual_seed(0))
    assert seeded(ellipsoid, torch.zeros(1, 10).double()).best_value < 10


@pytest.mark.parametrize("distribution", [FullGaussian(), CMA()], ids=repr)
def test_gradients_pass_through_the_loop_and_its_checkpoints(distribution: Distribution) -> None:
    """The minimiser of a bowl is its centre, so the derivative of the answer in the centre tends to 1."""
    gradients = []
    for checkpoint in (False, True):
        centre = torch.tensor([[0.3, -0.4]], dtype=torch.float64, requires_grad=True)
        solution = minimize(
            lambda x, centre=centre: ((x - centre.unsqueeze(1)).square() * torch.tensor([1.0, 5.0])).sum(-1),
            torch.zeros(1, 2).double(), weighting=SoftTopK(10), distribution=distribution, num_candidates=40,
            num_iterations=25, checkpoint=checkpoint, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        gradients.append(torch.autograd.grad(solution.mean.sum(), centre)[0])
        assert_close(solution.mean, centre, rtol=0, atol=0.01)
    assert_close(gradients[0], torch.ones(1, 2).double(), rtol=0, atol=0.05)
    assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("distribution", [FullGaussian(momentum=0.2), CMA(restart_below=0.5)], ids=repr)
def test_one_graph_without_breaks(distribution: Distribution) -> None:
    def answer(noises: Tensor) -> Tensor:
        states, values = search(distribution, LogRank(), rosenbrock, noises)
        return torch.cat([states[-1].mean, states[-1].std, values.amin(1, keepdim=True)], 1)

    noises = normal(3, 2, 8, 3)
    assert_close(torch.compile(answer, fullgraph=True, backend="eager")(noises), answer(noises))
    several = torch.stack([noises, normal(3, 2, 8, 3, seed=1)])
    assert_close(torch.func.vmap(answer)(several)[0], answer(noises))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogRank(0), "num_elites must be at least 1, got 0."),
        (lambda: LogRank(7)(torch.zeros(1, 5)), "num_elites must be at most num_candidates, got 7 and 5."),
        (lambda: FullGaussian(momentum=1.0), "momentum must be at least 0 and below 1, got 1.0."),
        (lambda: FullGaussian(min_std=-1.0), "min_std must be at least 0 and finite, got -1.0."),
        (lambda: cma(10, 5), "candidates of an iteration must be at most num_evaluations, got 10 and 5."),
        (lambda: cma(0), "dim must be at least 1, got 0."),
        (lambda: cma(10, population=0.1), "cma needs at least 2 candidates in an iteration, got 1."),
        (lambda: CMA(restart_below=1.0), r"restart_below must be at least 0 and below 1, got 1.0."),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
