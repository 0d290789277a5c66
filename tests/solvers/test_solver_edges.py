"""Solvers where numbers end: other units, large offsets, broken candidates, hopeless problems, random objectives."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import vmap
from torch.testing import assert_close

from lit_dcem import DCEM, Objective, Solution, cem, dcem, lml, unrolled_gd
from lit_dcem.solvers.iteration import _standardized

# torch 2.13 warns of itself when dynamo traces any autograd.Function.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"
)

OPTIONS = {"num_candidates": 30, "num_elites": 5, "num_iterations": 4}
START = (torch.zeros(3, 2), torch.ones(3, 2))
SECOND_IS_HOPELESS = torch.tensor([[0.0], [math.nan], [0.0]])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
TEMPERATURES = pytest.mark.parametrize("temperature", [0.0, 0.5, torch.tensor(0.5)], ids=["hard", "soft", "tensor"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(), dtype=torch.float64).to(dtype)


def solved_at_scale(scale: float, dtype: torch.dtype, temperature: float = 1.0, **options) -> tuple[Tensor, ...]:
    """Answer, spread and gradient for the same bowl in other units."""
    target = torch.tensor([[0.3, -0.5]], dtype=dtype, requires_grad=True)
    start = torch.zeros(1, 2, dtype=dtype)
    options = {"generator": seeded(), "temperature": temperature, **options}
    solution = dcem(lambda x: scale * (x - target.unsqueeze(1)).square().sum(-1), start, 1.0, **options)
    gradient = torch.autograd.grad(solution.mean.sum() + solution.std.sum(), target)[0] if temperature else start
    return solution.mean.detach(), solution.std.detach(), gradient


@DTYPES
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-5, 1e5, 1e12, 1e30])
def test_answer_and_gradient_do_not_depend_on_the_scale(scale: float, temperature: float, dtype: torch.dtype) -> None:
    got, wanted = (solved_at_scale(each, dtype, temperature) for each in (scale, 1.0))
    assert_close(got, wanted, rtol=0, atol=5e-6 if dtype == torch.float32 else 1e-13)


@DTYPES
@pytest.mark.parametrize("exponent", [-100, -40, 40, 100])
def test_powers_of_two_change_no_bit(exponent: int, dtype: torch.dtype) -> None:
    assert all(map(torch.equal, solved_at_scale(2.0**exponent, dtype), solved_at_scale(1.0, dtype)))


def test_a_search_is_not_stopped_by_small_differences() -> None:
    mean, std, _ = solved_at_scale(1.0, torch.float64, num_iterations=60)
    assert_close(mean, torch.tensor([[0.3, -0.5]], dtype=torch.float64), rtol=0, atol=1e-8)
    assert std.max() < 1e-7


@DTYPES
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6, 1e6])
@pytest.mark.parametrize("spread", [0.25, 8.0])
def test_standardised_scores_are_exact_at_any_offset(offset: float, spread: float, dtype: torch.dtype) -> None:
    values = offset + spread * normal(3, 100, dtype=dtype)
    exact = (values - values[:, :1]).double()  # differences of neighbours have no rounding
    exact = (exact.mean(1, keepdim=True) - exact) / exact.std(1, correction=0, keepdim=True)
    eps = torch.finfo(dtype).eps
    assert_close(_standardized(values, None).double(), exact, rtol=0, atol=20 * eps)


@DTYPES
def test_gradient_of_standardised_scores_matches_the_formula_at_any_scale(dtype: torch.dtype) -> None:
    for scale in (1e-12, 1.0, 1e12):
        values = (scale * normal(2, 50, dtype=dtype)).requires_grad_()
        scores, along = _standardized(values, None), normal(2, 50, dtype=dtype).sin()
        (got,) = torch.autograd.grad((scores * along).sum(), values)
        z, g = scores.detach().double(), along.double()
        wanted = -(g - g.mean(1, keepdim=True) - z * (z * g).mean(1, keepdim=True))
        wanted = wanted / values.detach().double().std(1, correction=0, keepdim=True)
        assert_close(got.double() * scale, wanted * scale, rtol=0, atol=100 * torch.finfo(dtype).eps)


@DTYPES
@pytest.mark.parametrize("level", [0.0, 1.0, -1e30, 3e38, 1e-40])
def test_constant_values_share_equally_without_a_gradient(level: float, dtype: torch.dtype) -> None:
    values = torch.full((2, 10), level, dtype=dtype, requires_grad=True)
    scores = _standardized(values, None)
    assert torch.equal(scores, torch.zeros_like(scores))
    assert torch.equal(torch.autograd.grad(scores.sin().sum(), values)[0], torch.zeros_like(values))
    weights = dcem(lambda x: x.sum(-1) * 0 + level, *START, **OPTIONS, trace=True).trace[0].weights
    assert_close(weights, torch.full((3, 30), 5 / 30))


def test_the_largest_numbers_of_the_type_do_not_overflow() -> None:
    values = torch.tensor([[3e38, -3e38, 0.0, 1e38]], requires_grad=True)
    wanted = _standardized(values.detach().double(), None).float()
    scores = _standardized(values, None)
    assert_close(scores, wanted)
    assert torch.autograd.grad(scores.sum(), values)[0].isfinite().all()


def domain_ends(target: Tensor) -> Objective:
    """NaN where the first coordinate is below -0.5, with a derivative that is NaN even when multiplied by 0."""
    return lambda x: ((x - target.unsqueeze(1)).square() + (x[..., :1] + 0.5).sqrt()).sum(-1)


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}, {"num_kept": 3, "momentum": 0.1}], ids=str)
@pytest.mark.parametrize("standardize", [True, False])
@TEMPERATURES
def test_broken_candidates_leave_the_gradient_finite(temperature, standardize: bool, options: dict) -> None:
    target, mean, std = (tensor.clone().requires_grad_() for tensor in (normal(3, 2).float() / 4, *START))
    options = {"standardize": standardize, "temperature": temperature, "trace": True, **OPTIONS, **options}
    solution = dcem(domain_ends(target), mean, std, generator=seeded(), **options)
    assert solution.trace[0].values.isnan().any(1).all()
    loss = sum(getattr(solution, name).sum() for name in ("mean", "std", "value", "best", "best_value"))
    for gradient in torch.autograd.grad(loss, (target, mean, std)):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("standardize", [True, False])
def test_the_gradient_beside_broken_candidates_matches_finite_differences(standardize: bool) -> None:
    def solve(target: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        options = {"num_candidates": 12, "num_elites": 4, "num_iterations": 2, "standardize": standardize}
        solution = dcem(domain_ends(target), mean, std, generator=seeded(), trace=True, **options)
        assert solution.trace[0].values.isnan().any()
        return torch.cat([solution.mean, solution.std, solution.best], 1)

    leaves = (normal(2, 2) / 4, normal(2, 2) / 9, normal(2, 2).abs() + 0.5)
    assert gradcheck(solve, [leaf.requires_grad_() for leaf in leaves], rtol=1e-5, atol=1e-8)


def test_a_mean_outside_the_domain_leaves_the_gradient_of_the_rest_finite() -> None:
    """Two valleys with a gap between them: the mean falls into the gap."""
    scale = torch.ones(1, requires_grad=True)
    start = torch.zeros(1, 1, requires_grad=True)
    solution = dcem(lambda x: scale * (x.abs() - 0.5).sqrt().sum(-1), start, 1.0, generator=seeded(), num_iterations=1)
    assert solution.value.isnan().all()
    loss = solution.mean.sum() + solution.best.sum() + solution.best_value.sum()
    for gradient in torch.autograd.grad(loss, (scale, start)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@TEMPERATURES
def test_candidates_that_are_not_finite_take_no_part(temperature, broken: float) -> None:
    warm = torch.full((3, 4, 2), broken)
    options = {"temperature": temperature, "trace": True, **OPTIONS}
    solution = dcem(lambda x: x[..., 0].square(), *START, warm_start=warm, generator=seeded(), **options)
    assert (solution.trace[0].weights[:, -4:] == 0).all()
    assert torch.stack([solution.mean, solution.std, solution.best]).isfinite().all()


def hopeless(**options) -> Solution:
    torch.manual_seed(0)
    return dcem(lambda x: x.square().sum(-1) + SECOND_IS_HOPELESS, *START, **{**OPTIONS, **options})


@pytest.mark.parametrize("options", [{}, {"num_kept": 2, "momentum": 0.2, "min_std": 0.1}, {"standardize": False}])
@TEMPERATURES
def test_a_hopeless_problem_is_nan_by_itself(temperature, options: dict) -> None:
    torch.manual_seed(0)
    whole = dcem(lambda x: x.square().sum(-1), *START, temperature=temperature, **OPTIONS, **options)
    solution = hopeless(temperature=temperature, trace=True, **options)
    for name in ("mean", "std", "value", "best", "best_value"):
        got, wanted = getattr(solution, name), getattr(whole, name)
        assert got[1].isnan().all()
        assert_close(got[[0, 2]], wanted[[0, 2]])
    assert torch.equal(torch.stack([i.weights[1].sum() for i in solution.trace]), torch.zeros(4))


@TEMPERATURES
def test_a_hopeless_problem_is_the_same_compiled_and_vmapped(temperature) -> None:
    def solve(marks: Tensor) -> Tensor:
        options = {"temperature": temperature, **OPTIONS, "num_iterations": 2}
        return dcem(lambda x: x.square().sum(-1) + marks, *START, **options).mean

    marks = torch.stack([SECOND_IS_HOPELESS, SECOND_IS_HOPELESS.flip(0) * 0, SECOND_IS_HOPELESS.roll(1, 0)])
    answers = []
    for each in (torch.compile(solve, fullgraph=True, backend="eager"), solve):
        torch.manual_seed(0)
        answers.append(each(marks[0]))
    assert_close(answers[0], answers[1], equal_nan=True)
    assert answers[1].isnan().all(1).tolist() == [False, True, False]
    torch.manual_seed(0)
    together = vmap(solve, randomness="same")(marks)
    for one, mark in zip(together, marks, strict=True):
        torch.manual_seed(0)
        assert_close(one, solve(mark), equal_nan=True)
    torch.compiler.reset()


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("standardize", [True, False])
def test_a_loss_that_leaves_a_hopeless_problem_out_has_a_finite_gradient(standardize: bool, checkpoint: bool) -> None:
    target, temperature, (mean, std) = torch.zeros(2), torch.tensor(0.5), (tensor.clone() for tensor in START)
    leaves = [leaf.requires_grad_() for leaf in (target, temperature, mean, std)]
    solution = dcem(
        lambda x: (x - target).square().sum(-1) + SECOND_IS_HOPELESS, mean, std, temperature=temperature,
        standardize=standardize, checkpoint=checkpoint, num_kept=2, generator=seeded(), **OPTIONS,
    )  # fmt: skip
    answered = solution.mean.isfinite().all(1)
    assert answered.tolist() == [True, False, True]
    loss = solution.mean[answered].sum() + solution.best_value[answered].sum()
    gradients = torch.autograd.grad(loss, leaves)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.equal(gradients[2][1], torch.zeros(2))


def test_a_problem_that_is_hopeless_at_first_goes_on_from_where_it_was() -> None:
    calls = []

    def objective(x: Tensor) -> Tensor:
        calls.append(x)
        return x.square().sum(-1) + (math.nan if len(calls) == 1 else 0.0)

    solution = cem(objective, *START, generator=seeded(), trace=True, **OPTIONS)
    assert torch.equal(solution.trace[1].mean, START[0])
    assert torch.equal(solution.trace[1].std, START[1])
    assert solution.mean.isfinite().all()


def test_an_input_of_nan_is_nan_by_itself() -> None:
    broken = torch.tensor([[0.0, 0.0], [0.0, math.nan], [0.0, 0.0]])
    for mean, std in ((broken, 1.0), (broken * 0, broken + 1)):
        answer = dcem(lambda x: x.square().sum(-1), mean, std, **OPTIONS).mean
        assert answer.isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_require_finite_names_the_problems(temperature: float) -> None:
    marks = torch.tensor([[0.0], [math.nan], [math.inf]])
    rule = r"^require_finite needs a finite value for every problem, got none for 2 of 3 \(problem 1, 2\)\.$"
    solver = DCEM(temperature=temperature, require_finite=True, **OPTIONS)
    with pytest.raises(ValueError, match=rule):
        solver(lambda x: x.sum(-1) + marks, *START)
    assert solver(lambda x: x.sum(-1), *START).mean.isfinite().all()


def test_descent_answers_the_other_problems() -> None:
    broken = torch.tensor([[1.0], [math.nan], [1.0]])
    solution = unrolled_gd(lambda x: broken * (x - 1).square().sum(-1), START[0], lr=0.3, num_steps=50)
    for name in ("mean", "value", "best", "best_value"):
        assert getattr(solution, name)[1].isnan().all()
    assert_close(solution.mean[[0, 2]], torch.ones(2, 2))


@pytest.mark.parametrize("k", [2, 4])
def test_a_loss_that_leaves_a_row_of_nan_out_has_a_finite_gradient(k: int) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, math.nan], [math.nan] * 4], requires_grad=True)
    temperature = torch.tensor(0.7, requires_grad=True)
    weights = lml(scores, k, temperature)
    assert weights[1].isnan().all()
    by_scores, by_temperature = torch.autograd.grad(weights[0].square().sum(), (scores, temperature))
    assert torch.equal(by_scores[1], torch.zeros(4))
    assert by_scores.isfinite().all() and by_temperature.isfinite()


Draw = Callable[[Tensor], Tensor]


def noisy_gradient(draw: Draw, checkpoint: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    target = torch.tensor([[0.3, -0.5]], requires_grad=True)

    def objective(x: Tensor) -> Tensor:
        return ((x - target.unsqueeze(1)).square() * (1 + 0.3 * draw(x))).sum(-1)

    options = {"checkpoint": checkpoint, "generator": generator, **OPTIONS}
    solution = dcem(objective, torch.zeros(1, 2), 1.0, **options)
    return solution.mean.detach(), torch.autograd.grad(solution.mean.sum(), target)[0]


def test_checkpointing_replays_the_global_generator() -> None:
    layer = nn.Dropout(0.3)
    for draw in (torch.randn_like, lambda x: torch.rand(x.shape), lambda x: layer(torch.ones_like(x))):
        plain, replayed = (noisy_gradient(draw, checkpoint, None) for checkpoint in (False, True))
        assert torch.equal(plain[0], replayed[0])
        assert torch.equal(plain[1], replayed[1])


def test_checkpointing_replays_the_generator_of_the_solver() -> None:
    results, states = [], []
    for checkpoint in (False, True):
        generator = seeded(5)
        draw = lambda x, own=generator: torch.randn(x.shape, generator=own)  # noqa: E731
        results.append(noisy_gradient(draw, checkpoint, generator))
        states.append(generator.get_state())
    assert all(map(torch.equal, *results))
    assert torch.equal(*states)


def test_checkpointing_refuses_randomness_that_it_cannot_replay() -> None:
    own = seeded(9)
    with pytest.raises(
        RuntimeError,
        match=r"^checkpoint=True needs an objective that is deterministic, or draws from .*, got values that",
    ):
        noisy_gradient(lambda x: torch.randn(x.shape, generator=own), True, None)
