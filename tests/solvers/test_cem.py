"""The sampling loop: known optima, every option, what the solution holds, and what leaks (nothing)."""

import inspect
import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_dcem import DCEM, Objective, Solution, cem, dcem, lml
from lit_dcem.solvers.noise import coloured_noise

TARGET = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]])
START = (torch.zeros(3, 2), torch.ones(3, 2))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance_to(target: Tensor) -> Objective:
    return lambda x: (x - target.unsqueeze(1)).square().sum(-1)


def rosenbrock(x: Tensor) -> Tensor:
    return 100 * (x[..., 1] - x[..., 0].square()).square() + (1 - x[..., 0]).square()


def run(objective: Objective | None = None, seed: int = 0, solver=dcem, start=START, **options) -> Solution:
    options = {"num_candidates": 30, "num_elites": 5, "num_iterations": 4, "trace": True, **options}
    return solver(objective or distance_to(TARGET), *start, generator=seeded(seed), **options)


def assert_same(a: Solution, b: Solution, rows: slice = slice(None)) -> None:
    """Equal bit for bit, every field and the whole trace."""
    for name in ("mean", "std", "value", "best", "best_value"):
        assert torch.equal(getattr(a, name)[rows], getattr(b, name)[rows]), name
    for one, other in zip(a.trace or (), b.trace or (), strict=True):
        for name in ("mean", "std", "candidates", "values", "weights"):
            assert torch.equal(getattr(one, name)[rows], getattr(other, name)[rows]), name


@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0])
def test_quadratic(temperature: float) -> None:
    solution = run(temperature=temperature, num_candidates=200, num_elites=20, num_iterations=40)
    assert_close(solution.mean, TARGET, rtol=0, atol=1e-3)


def test_rosenbrock() -> None:
    options = {"num_candidates": 1000, "num_elites": 20, "num_iterations": 60, "min_std": 0.02}
    solution = run(rosenbrock, solver=cem, start=(TARGET, torch.ones(3, 2)), **options)
    assert_close(solution.mean, torch.ones(3, 2), rtol=0, atol=0.02)
    assert_close(solution.best, torch.ones(3, 2), rtol=0, atol=0.01)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_optimum_outside_the_box_is_found_on_its_boundary(temperature: float) -> None:
    bounds = {"lower": -0.5, "upper": torch.tensor([0.25, 0.75])}
    solution = run(num_candidates=200, num_elites=20, num_iterations=30, temperature=temperature, **bounds)
    assert_close(solution.mean, TARGET.clamp_min(-0.5).minimum(bounds["upper"]), rtol=0, atol=0.01)
    assert all(((i.candidates >= -0.5) & (i.candidates <= bounds["upper"])).all() for i in solution.trace)
    assert any((i.candidates == -0.5).any() for i in solution.trace)


def test_bounds_as_numbers_and_as_tensors_are_the_same() -> None:
    expected = run(lower=-0.5, upper=0.25)
    low, high = torch.tensor(-0.5), torch.tensor(0.25)
    for lower, upper in ((low, high), (low.expand(2), 0.25), (-0.5, high.expand(3, 2)), (low.expand(3, 1), high)):
        assert_same(run(lower=lower, upper=upper), expected)
    assert run(lower=0.1).best.amin() >= 0.1
    assert run(lower=0.5, momentum=0.9, num_iterations=1).mean.amin() == 0.5
    assert run(upper=torch.tensor([0.1, 9])).best[:, 0].amax() <= 0.1


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_one_iteration_by_hand(temperature: float, standardize: bool) -> None:
    mean, std = TARGET + 0.3, torch.full((3, 2), 0.5)
    got = run(start=(mean, std), temperature=temperature, standardize=standardize, num_iterations=1)
    x = mean.unsqueeze(1) + std.unsqueeze(1) * torch.randn(3, 30, 2, generator=seeded())
    values = distance_to(TARGET)(x)
    if standardize:
        values = (values - values.mean(1, keepdim=True)) / values.std(1, correction=0, keepdim=True)
    hard = (values <= values.sort(1).values[:, 4:5]).float()
    share = (lml(-values, 5, temperature) if temperature else hard).unsqueeze(-1) / 5
    centre = (share * x).sum(1)
    assert_close((got.trace[0].candidates, got.mean), (x, centre))
    assert_close(got.std, (share * (x - centre.unsqueeze(1)).square()).sum(1).sqrt())


def test_temperature_zero_is_cem_sample_for_sample() -> None:
    assert_same(run(temperature=0.0), run(solver=cem))
    assert not torch.equal(run(temperature=1.0).mean, run(solver=cem).mean)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_zero_spread_stays_where_it_is(temperature: float) -> None:
    solution = run(start=(TARGET + 1, torch.zeros(3, 2)), temperature=temperature)
    assert_close(solution.mean, TARGET + 1)
    assert_close(solution.std, torch.zeros(3, 2))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 6])
def test_all_candidates_are_elites(n: int, temperature: float) -> None:
    solution = run(num_candidates=n, num_elites=n, num_iterations=1, temperature=temperature)
    assert_close(solution.mean, solution.trace[0].candidates.mean(1))
    assert_close(solution.std, solution.trace[0].candidates.std(1, correction=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_equal_values(temperature: float) -> None:
    solution = run(lambda x: torch.full(x.shape[:2], 3.0), temperature=temperature)
    assert_close(solution.trace[-1].weights.sum(1), torch.full((3,), 5.0))
    assert solution.mean.isfinite().all()
    if temperature:
        assert_close(solution.trace[0].weights, torch.full((3, 30), 5 / 30))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_candidates_are_ignored(temperature: float, broken: float) -> None:
    def objective(x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0.2, broken, distance_to(TARGET)(x))

    solution = run(objective, temperature=temperature, num_iterations=10, num_kept=2)
    for i in solution.trace:
        assert (i.weights[~i.values.isfinite()] == 0).all()
    assert not solution.trace[0].values.isfinite().all()
    assert torch.stack([solution.mean[:, 0], solution.best_value]).isfinite().all()
    assert (solution.best[:, 0] <= 0.2).all()
    values = solution.trace[0].values
    worst = values.where(values.isfinite(), -math.inf).amax(1, keepdim=True)
    whole = values.where(values.isfinite(), worst)
    scores = (whole.mean(1, keepdim=True) - whole) / whole.std(1, correction=0, keepdim=True)
    if temperature:
        assert_close(solution.trace[0].weights, lml(scores.where(values.isfinite(), math.nan), 5))


def test_number_of_candidates_follows_the_schedule() -> None:
    trace = run(num_candidates=[30, 20, 10, 5], num_kept=2).trace
    assert [i.candidates.shape for i in trace] == [(3, n, 2) for n in (30, 20, 10, 5)]


def test_std_stays_above_its_minimum() -> None:
    assert run(solver=cem, min_std=0.3, num_iterations=10).std.amin() >= 0.3 - 1e-6
    assert run(solver=cem, num_iterations=10).std.amax() < 0.3


def test_momentum_mixes_old_and_new() -> None:
    plain, mixed = run(num_iterations=1), run(num_iterations=1, momentum=0.75)
    assert_close(mixed.mean, 0.75 * START[0] + 0.25 * plain.mean)
    assert_close(mixed.std, 0.75 * START[1] + 0.25 * plain.std)


def test_best_candidates_are_kept() -> None:
    trace = run(num_kept=3).trace
    for before, after in itertools.pairwise(trace):
        best = before.candidates.gather(1, before.values.argsort(1)[:, :3, None].expand(-1, -1, 2))
        found = (after.candidates.unsqueeze(1) == best.unsqueeze(2)).all(-1).any(2)
        assert found.all()
        assert after.values.amin(1).le(before.values.amin(1)).all()
    assert (run().trace[1].candidates[:, None] != trace[0].candidates[:, :, None]).any(-1).all()


def test_warm_start_takes_part_in_the_first_iteration_only() -> None:
    warm = torch.stack([TARGET, TARGET + 0.1], 1)
    solution = run(warm_start=warm, lower=-9.0, upper=1.0)
    same = [(i.candidates.unsqueeze(1) == warm.clamp(-9, 1).unsqueeze(2)).all(-1).any(2) for i in solution.trace]
    assert [bool(found.all()) for found in same] == [bool(found.any()) for found in same] == [True] + [False] * 3
    assert [i.candidates.shape[1] for i in solution.trace] == [30] * 4
    assert_close(solution.best, TARGET.clamp(-9, 1))


@pytest.mark.parametrize("horizon", [16, 15, 4])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_coloured_noise_has_unit_variance_and_the_slope_asked_for(exponent: float, horizon: int) -> None:
    noise = coloured_noise((1, 20000, 2 * horizon), exponent, horizon, torch.zeros(1), seeded())
    steps = noise[0].unflatten(-1, (horizon, 2))
    assert_close(steps.var(0), torch.ones(horizon, 2), rtol=0, atol=0.05)
    assert (steps[..., 0] * steps[..., 1]).mean(0).abs().max() < 0.05
    power = torch.fft.rfft(steps, dim=1).abs().square().mean((0, 2))[1:]
    slope = power.log().diff().sum() / math.log(len(power))
    assert_close(-slope, torch.tensor(exponent), rtol=0, atol=0.05)


def test_candidates_are_smoother_for_larger_exponents() -> None:
    start, lag_one = (torch.zeros(1, 40), torch.ones(1, 40)), []
    for exponent in (0.0, 1.0, 2.0, 3.0):
        options = {"num_candidates": 2000, "noise_exponent": exponent, "horizon": 20, "num_iterations": 1}
        steps = run(lambda x: x.sum(-1), start=start, **options).trace[0].candidates[0].unflatten(-1, (20, 2))
        lag_one.append((steps[:, 1:] * steps[:, :-1]).mean().item())
    assert abs(lag_one[0]) < 0.03
    assert all(after > before + 0.05 for before, after in itertools.pairwise(lag_one))


@pytest.mark.parametrize("solver", [dcem, cem])
def test_solution_and_trace_fit_together(solver) -> None:
    solution = run(rosenbrock, solver=solver)
    assert torch.equal(solution.value, rosenbrock(solution.mean))
    assert torch.equal(solution.best_value, rosenbrock(solution.best))
    values = torch.cat([solution.value.unsqueeze(1), *(i.values for i in solution.trace)], 1)
    assert torch.equal(solution.best_value, values.amin(1))
    assert torch.equal(torch.stack([solution.trace[0].mean, solution.trace[0].std]), torch.stack(START))
    for i in solution.trace:
        assert torch.equal(i.values, rosenbrock(i.candidates))
        assert_close(i.weights.sum(1), torch.full((3,), 5.0))
    means = [i.mean for i in solution.trace] + [solution.mean]
    assert_close(means[-1], (solution.trace[-1].weights.unsqueeze(-1) * solution.trace[-1].candidates).sum(1) / 5)
    assert run(solver=solver, trace=False).trace is None


def test_best_may_be_the_mean() -> None:
    solution = run(lambda x: x.square().sum(-1), start=(torch.zeros(3, 20), torch.ones(3, 20)))
    assert torch.equal(solution.best, solution.mean)
    assert torch.equal(solution.best_value, solution.value)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"num_kept": 3, "momentum": 0.1, "min_std": 0.1}])
def test_problems_do_not_touch_each_other(options: dict) -> None:
    before, after = run(**options), run(distance_to(torch.cat([1e4 * TARGET[:1], TARGET[1:]])), **options)
    assert_same(before, after, slice(1, None))
    assert not torch.equal(before.mean[0], after.mean[0])


def test_the_generator_is_the_only_source_of_randomness() -> None:
    before = torch.get_rng_state()
    first, again, other = (run(seed=seed, noise_exponent=1.0, horizon=2) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(first, again)
    assert not torch.equal(first.mean, other.mean)


def test_the_global_generator_is_used_if_none_is_given() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        drawn = dcem(distance_to(TARGET), *START, num_candidates=30, num_elites=5, num_iterations=4)
    assert torch.equal(drawn.mean, run(seed=7).mean)


def test_module_holds_the_options() -> None:
    options = {"num_candidates": 30, "num_elites": 5, "num_iterations": 4, "temperature": 0.5, "trace": True}
    solver = DCEM(**options, generator=seeded())
    assert_same(solver(distance_to(TARGET), *START), run(temperature=0.5))
    hard = solver.replace(temperature=0.0, generator=seeded())
    assert_same(hard(distance_to(TARGET), *START), run(solver=cem))
    assert "num_elites=5, num_iterations=4, temperature=0.5" in repr(solver)


def test_module_and_function_have_the_same_options() -> None:
    function, module = (inspect.signature(each).parameters.values() for each in (dcem, DCEM))
    options = [(p.name, p.default, p.annotation) for p in function if p.kind is p.KEYWORD_ONLY]
    assert [(p.name, p.default, p.annotation) for p in module] == options


def test_each_option_is_described_once_and_shown_for_both() -> None:
    described = DCEM.__init__.__doc__ or ""
    for name in inspect.signature(DCEM).parameters:
        assert f"    {name}: " in described
    assert "0 is the hard top-k" in described
    assert "    mean:" not in described and "Returns" not in described
