"""Any weighting, distribution and noise in the one loop: known optima, gradients, independence, and what ends it."""

import functools
import inspect
import itertools
import math
import re
import textwrap

import pytest
import torch
from torch.testing import assert_close

from lit_dcem import DCEM, Minimizer, cem, dcem, icem, minimize, mppi
from lit_dcem.solvers import distributions, noise, weights
from lit_dcem.solvers.distributions import Categorical, Gaussian
from lit_dcem.solvers.noise import Coloured, Spline, White
from lit_dcem.solvers.weights import Softmax, SoftTopK, TopK

TARGET = torch.tensor([[0.5, -1.0, 0.2, 0.0], [2.0, 0.3, -0.4, 1.0], [-0.7, 0.1, 0.0, -0.2]])
START = torch.zeros(3, 4)


def documented(module):
    """The names that the code in the documentation of a module defines."""
    code = inspect.getdoc(module).partition("::\n\n")[2]
    names = dict(vars(module))
    exec(textwrap.dedent(code), names)
    return names


WEIGHTINGS = {
    "hard": TopK(10),
    "soft": SoftTopK(10, 0.5),
    "softmax": Softmax(0.3),
    "own": documented(weights)["by_rank"],
}
ANTITHETIC = documented(noise)["antithetic"]
NOISES = {"white": White(), "pink": Coloured(1.0, 4), "own": ANTITHETIC}
DISTRIBUTIONS = {"gaussian": Gaussian(min_std=1e-3), "own": documented(distributions)["Isotropic"]()}


def bowl(target):
    return lambda x: (x - target.unsqueeze(1)).square().sum(-1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


UNBIASED = Gaussian(unbiased=True)
CANDIDATES = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_unbiased_std_is_that_of_torch(share):
    """Also where all that are chosen have a lower weight: it is their number that counts."""
    chosen = torch.arange(8) < 3
    fitted = UNBIASED.fit(None, CANDIDATES, share * chosen.double().expand(3, 8))
    assert_close(fitted.std, CANDIDATES[:, :3].std(1))


def test_unbiased_std_of_one_elite_is_that_of_the_biased_fit():
    candidates = CANDIDATES.clone().requires_grad_()
    weights = (torch.arange(8) < 1).double().expand(3, 8)
    fitted = UNBIASED.fit(None, candidates, weights)
    assert_close(fitted.std, Gaussian().fit(None, candidates, weights).std)
    fitted.std.sum().backward()
    assert (candidates.grad == 0).all()


def test_gradients_of_an_unbiased_std():
    scores = torch.randn(3, 8, generator=generator(4), dtype=torch.float64)

    def std(scores, candidates):
        return UNBIASED.fit(None, candidates, SoftTopK(2, 0.7)(scores)).std

    assert torch.autograd.gradcheck(std, (scores.requires_grad_(), CANDIDATES.clone().requires_grad_()))


@pytest.mark.parametrize("temperature", [0.0, 0.5], ids=["hard", "soft"])
def test_searches_fit_an_unbiased_std(temperature):
    options = {"num_candidates": 20, "num_elites": 3, "num_iterations": 1, "trace": True, "generator": generator()}
    solution = dcem(bowl(TARGET), START, 1.0, temperature=temperature, unbiased=True, **options)
    (iteration,) = solution.trace
    shares = (iteration.weights / 3).unsqueeze(-1)
    offsets = iteration.candidates - (shares * iteration.candidates).sum(1, keepdim=True)
    assert_close(solution.std, ((shares * offsets.square()).sum(1) / (1 - shares.square().sum(1))).sqrt())


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_each_pair_finds_the_optimum(weighting, distribution, noise):
    parts = {"weighting": WEIGHTINGS[weighting], "distribution": DISTRIBUTIONS[distribution]}
    solution = minimize(
        bowl(TARGET), START, **parts, noise=NOISES[noise], num_candidates=200, num_iterations=30, generator=generator()
    )
    assert_close(solution.mean, TARGET, rtol=0, atol=0.1)
    assert (solution.best_value <= solution.value).all() and solution.num_iterations == 30


@pytest.mark.parametrize("weighting", ["soft", "softmax"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_gradients_are_those_of_float64_differences(weighting, distribution):
    parts = {"weighting": WEIGHTINGS[weighting], "distribution": DISTRIBUTIONS[distribution]}

    def answer(target, mean):
        return minimize(bowl(target), mean, **parts, num_candidates=30, num_iterations=3, generator=generator()).mean

    inputs = TARGET.double().requires_grad_(), START.double().requires_grad_()
    assert torch.autograd.gradcheck(answer, inputs, eps=1e-6, atol=1e-5)


def test_the_temperature_of_mppi_is_learned():
    def answer(temperature):
        options = {"num_candidates": 30, "num_iterations": 2, "generator": generator()}
        return minimize(bowl(TARGET.double()), START.double(), weighting=Softmax(temperature), **options).mean

    assert torch.autograd.gradcheck(answer, torch.tensor(0.7, dtype=torch.float64, requires_grad=True))


def test_a_broken_candidate_gives_the_temperature_no_nan():
    scores, temperature = torch.tensor([[1.0, -math.inf, 2.0]]), torch.tensor(0.5, requires_grad=True)
    weights = Softmax(temperature)(scores)
    (gradient,) = torch.autograd.grad(weights[0, 0], temperature)
    assert weights[0, 1] == 0 and gradient.isfinite()


def test_it_is_dcem_and_cem():
    options = {"num_candidates": 40, "num_iterations": 4}
    ours = minimize(bowl(TARGET), START, weighting=SoftTopK(7, 0.4), **options, generator=generator())
    theirs = dcem(bowl(TARGET), START, 1.0, num_elites=7, temperature=0.4, **options, generator=generator())
    assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.std, theirs.std)
    ours = minimize(bowl(TARGET), START, weighting=TopK(7), standardize=False, **options, generator=generator())
    assert torch.equal(ours.mean, cem(bowl(TARGET), START, 1.0, num_elites=7, **options, generator=generator()).mean)


# ---- choices ---------------------------------------------------------------------------------------------------------


def first_of_each(x):
    """0 where every block of three chooses its second value, else the number of other choices."""
    return (1 - x.unflatten(-1, (-1, 3))[..., 1]).sum(-1)


def test_choices_are_found():
    distribution = Categorical(3, min_probability=0.01)
    solution = minimize(first_of_each, torch.zeros(2, 12), distribution=distribution, generator=generator())
    assert solution.value.tolist() == [0, 0] and solution.best_value.tolist() == [0, 0]
    assert solution.mean.unflatten(-1, (-1, 3)).argmax(-1).eq(1).all() and set(solution.mean.unique().tolist()) == {
        0,
        1,
    }


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_the_gradient_of_choices_lowers_the_cost(temperature):
    """Of the costs of three values, learned so that the search chooses the second."""
    costs = torch.tensor([0.1, 0.3, 0.0], requires_grad=True)
    distribution = Categorical(3, temperature=temperature)
    options = {"distribution": distribution, "num_iterations": 2, "weighting": SoftTopK(10, 1.0)}
    for step in range(20):
        objective = functools.partial(lambda costs, x: (x * costs).sum(-1), costs)
        answer = minimize(objective, torch.zeros(1, 3), **options, generator=generator(step)).mean
        (gradient,) = torch.autograd.grad(-answer[0, 1], costs)
        costs = (costs - gradient).detach().requires_grad_()
    assert costs.argmin() == 1


def test_choices_are_equally_likely_at_first_and_fair():
    distribution = Categorical(4)
    state = distribution.begin(torch.zeros(1, 8), torch.ones(1, 8))
    drawn = distribution.sample(state, torch.randn(1, 20_000, 8, generator=generator()))
    assert_close(drawn.mean(1), torch.full((1, 8), 0.25), rtol=0, atol=0.02)
    assert (drawn.unflatten(-1, (2, 4)).sum(-1) == 1).all()


# ---- batches, bounds, and what ends a search -------------------------------------------------------------------------


@pytest.mark.parametrize("solve", [minimize, dcem], ids=["minimize", "dcem"])
@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_any_number_of_batch_dimensions(solve, batch):
    target = torch.linspace(-1, 1, math.prod(batch) * 4).reshape(*batch, 4)
    lower = torch.full((*batch, 4), -0.8)
    known = target.unsqueeze(-2) + 0.1

    def objective(x):
        assert x.shape[:-2] == batch
        return (x - target.unsqueeze(-2)).square().sum(-1)

    options = {"lower": lower, "warm_start": known, "trace": True, "generator": generator()}
    solution = solve(objective, torch.zeros(*batch, 4), 1.0, **options)
    flat = solve(
        lambda x: (x - target.reshape(-1, 1, 4)).square().sum(-1),
        torch.zeros(math.prod(batch), 4),
        1.0,
        **{**options, "lower": lower.reshape(-1, 4), "warm_start": known.reshape(-1, 1, 4), "generator": generator()},
    )
    assert torch.equal(solution.mean, flat.mean.reshape(*batch, 4)) and solution.value.shape == batch
    assert torch.equal(solution.at_bound, flat.at_bound.reshape(*batch, 4))
    assert solution.trace[0].candidates.shape == (*batch, 100, 4)


def test_a_wrong_shape_of_values_is_one_sentence():
    with pytest.raises(ValueError, match=r"one value per candidate, got \[2, 3\] for candidates \[2, 3, 100, 4\]\."):
        minimize(lambda x: x.sum((-1, -2)), torch.zeros(2, 3, 4))


def test_the_solution_says_where_it_lies_on_a_bound():
    target = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]])
    solution = minimize(bowl(target), START[:, :2], lower=[-0.5, -0.5], upper=1.0, generator=generator())
    assert solution.at_bound.tolist() == [[False, True], [True, False], [True, False]]
    assert not minimize(bowl(target), START[:, :2]).at_bound.any()


def test_a_collapsed_spread_is_told():
    solution = minimize(bowl(TARGET), START, weighting=TopK(1), num_iterations=5, generator=generator())
    assert solution.has_collapsed.all()
    assert not minimize(bowl(TARGET), START, weighting=TopK(10), generator=generator()).has_collapsed.any()


def test_problems_end_one_by_one_and_do_not_depend_on_each_other():
    seen, std = [], torch.tensor([[1.0], [0.1], [10.0]]).expand(3, 4)
    options = {"tolerance": 0.05, "num_iterations": 200, "weighting": TopK(20), "standardize": False}
    generators = [generator(seed) for seed in range(3)]
    whole = minimize(bowl(TARGET), START, std, **options, generator=generators, callback=seen.append)
    assert (whole.std <= 0.05).all() and len(set(whole.num_iterations.tolist())) == 3
    assert len(seen) == whole.num_iterations.max() < 200
    for row in range(3):
        alone = minimize(bowl(TARGET[[row]]), START[[row]], std[[row]], **options, generator=[generator(row)])
        assert torch.equal(alone.mean[0], whole.mean[row]) and torch.equal(alone.best[0], whole.best[row])
        assert alone.num_iterations.item() == whole.num_iterations[row]


def test_problems_end_under_compile_too():
    """Where the number of iterations is fixed."""
    std = torch.tensor([[1.0], [0.01], [1.0]]).expand(3, 4)

    def solve(mean):
        solution = minimize(bowl(TARGET), mean, std, weighting=TopK(20), tolerance=0.05, num_iterations=3)
        return solution.mean, solution.num_iterations

    torch.compiler.reset()
    torch.manual_seed(0)
    means, counts = torch.compile(solve, fullgraph=True, backend="aot_eager")(START)
    torch.compiler.reset()
    torch.manual_seed(0)
    assert_close((means, counts), solve(START))
    assert counts.tolist() == [3, 0, 3] and torch.equal(means[1], START[1])


def test_the_largest_value_is_found():
    solution = minimize(lambda x: -bowl(TARGET)(x), START, maximize=True, trace=True, generator=generator())
    lowest = minimize(bowl(TARGET), START, generator=generator())
    assert torch.equal(solution.mean, lowest.mean) and (solution.best_value >= solution.value).all()
    assert torch.equal(solution.value, -lowest.value) and (solution.trace[0].values <= 0).all()


def test_seeds_of_problems_are_their_own():
    together = minimize(bowl(TARGET), START, generator=[generator(seed) for seed in (5, 6, 7)]).mean
    alone = minimize(bowl(TARGET[1:2]), START[1:2], generator=[generator(6)]).mean
    assert torch.equal(together[1:2], alone)


def test_other_numbers_of_generators_are_refused():
    with pytest.raises(ValueError, match="generator must be one, or one for each of 3 problems, got 2"):
        minimize(bowl(TARGET), START, generator=[generator(), generator()])


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["constant", "linear", "cubic"])
def test_splines_have_unit_variance_and_pass_through_their_knots(order):
    noise = Spline(4, 13, order)((1, 20_000, 26), torch.zeros(()), generator()).unflatten(-1, (13, 2))
    assert_close(noise.var(1), torch.ones(1, 13, 2), rtol=0, atol=0.05)
    steps = (noise[:, :, 1:] - noise[:, :, :-1]).square().mean((0, 1, 3))
    assert (steps < 1e-9).sum() == (9 if order == "constant" else 0)
    assert order == "constant" or steps.max() < 0.9  # white noise: 2
    whole = Spline(13, 13, order)((1, 5, 26), torch.zeros(()), generator(1))
    assert_close(whole, White()((1, 5, 26), torch.zeros(()), generator(1)), rtol=0, atol=1e-5)


def test_few_knots_find_a_smooth_target():
    """In 24 dimensions, with 20 candidates an iteration, where white noise is still far off."""
    knots = torch.tensor([[1.0, -1.0, 0.5]])
    target = knots.repeat_interleave(8, 1)
    options = {"num_candidates": 20, "num_iterations": 12, "weighting": TopK(4), "standardize": False}
    values = [
        minimize(bowl(target), torch.zeros(1, 24), noise=each, **options, generator=generator()).best_value.item()
        for each in (Spline(3, 24, "constant"), White())
    ]
    assert 10 * values[0] < values[1]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Spline(5, 4), "num_knots must be at most horizon, got 5 and 4"),
        (lambda: Spline(0, 4), "num_knots must be at least 1, got 0"),
        (lambda: Spline(2, 4, "square"), "order must be one of constant, linear, cubic, got square"),
        (lambda: Coloured(1.0, 1), "noise_exponent needs a horizon above 1, got noise_exponent 1.0 and horizon 1"),
        (lambda: TopK(0), "num_elites must be at least 1, got 0"),
        (lambda: SoftTopK(3, 0.0), "temperature must be positive and finite, got 0.0"),
        (lambda: Softmax(-1.0), "temperature must be positive and finite, got -1.0"),
        (lambda: Gaussian(momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: Categorical(1), "num_choices must be at least 2, got 1"),
        (lambda: Categorical(4, min_probability=0.25), "below 1 / num_choices = 0.25, got 0.25"),
        (lambda: minimize(bowl(TARGET), START, tolerance=-1.0), "tolerance must be at least 0 and finite, got -1.0"),
        (
            lambda: Minimizer(weighting=TopK(7), num_candidates=6),
            "num_elites must be at most num_candidates, got 7 and 6",
        ),
        (lambda: minimize(bowl(TARGET), START, num_candidates=0), "num_candidates must be at least 1, got 0"),
        (
            lambda: minimize(bowl(TARGET), START, distribution=Categorical(3)),
            "num_choices must divide the size of a point, got 3 and 4",
        ),
        (
            lambda: minimize(bowl(TARGET), START, noise=Spline(2, 3)),
            "horizon must divide the dimension of the problem, got 3 and 4",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(build, says):
    with pytest.raises(ValueError, match=rf"{re.escape(says)}\.$"):
        build()


# ---- the solver ------------------------------------------------------------------------------------------------------


def test_the_solver_has_the_options_of_the_function():
    solver = Minimizer(weighting=TopK(5), num_candidates=[30, 20], num_iterations=2, generator=generator())
    options = {"weighting": TopK(5), "num_candidates": [30, 20], "num_iterations": 2, "generator": generator()}
    assert torch.equal(solver(bowl(TARGET), START).mean, minimize(bowl(TARGET), START, **options).mean)
    assert solver.num_evaluations == 50 and not solver.is_differentiable and Minimizer().is_differentiable
    assert solver.replace(weighting=Softmax()).is_differentiable and len(solver.traced().options) == 20
    assert "TopK(num_elites=5)" in repr(solver) and repr(Minimizer()) == "Minimizer()"
    with pytest.raises(ValueError, match="num_choices must divide the size of a point, got 3 and 4"):
        Minimizer(distribution=Categorical(3)).check_dim(4)
    with pytest.raises(TypeError):
        solver.replace(nothing=1)
    assert Minimizer(noise=Spline(2, 3)).with_horizon(7).options["noise"] == Spline(2, 7)
    assert Minimizer(noise=ANTITHETIC).with_horizon(7).options["noise"] is ANTITHETIC
    assert DCEM().with_horizon(7).options["horizon"] == 7
    assert isinstance(DCEM().replace(num_iterations=2), DCEM)


# ---- presets ---------------------------------------------------------------------------------------------------------


def test_mppi_moves_its_mean_by_the_softmax_of_the_values_alone():
    options = {"num_candidates": 50, "trace": True, "generator": generator()}
    solution = mppi(temperature=0.5, **options)(bowl(TARGET), START, 0.3)
    (iteration,) = solution.trace
    weights = torch.softmax(-iteration.values / 0.5, -1)
    assert_close(solution.mean, (weights.unsqueeze(-1) * iteration.candidates).sum(1))
    assert (solution.std == 0.3).all() and mppi().is_differentiable


def test_icem_keeps_elites_and_has_fewer_and_fewer_candidates():
    solver = icem(num_candidates=100, num_elites=10, num_iterations=9, horizon=2, noise_exponent=1.0, trace=True)
    solution = solver.replace(generator=generator())(bowl(TARGET), START, 1.0)
    sizes = [iteration.values.shape[1] for iteration in solution.trace]
    assert sizes == [100, 80, 64, 51, 40, 32, 26, 20, 20] and solver.num_evaluations == sum(sizes)
    best = [iteration.values.min(1).values for iteration in solution.trace]
    assert all((after <= before).all() for before, after in itertools.pairwise(best))
    assert_close(solution.best, TARGET, rtol=0, atol=0.2)
    with pytest.raises(ValueError, match=r"decay must be at least 1, got 0\.5\."):
        icem(decay=0.5)
