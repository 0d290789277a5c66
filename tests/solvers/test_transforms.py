"""The solvers under torch.compile, torch.func, autocast and in other precisions."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap
from torch.testing import assert_close

from lit_dcem import DCEM, Planner, cem, dcem, lml, minimize, unrolled_gd
from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.full_gaussian import FullGaussian
from lit_dcem.solvers.noise import Spline

pytestmark = [
    # torch 2.13 warns of itself: when dynamo traces any autograd.Function, and when forward mode is first used.
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.* is deprecated:DeprecationWarning"),
]

START = (torch.zeros(3, 2), torch.ones(3, 2))
TARGET = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]])
HALF = torch.tensor(0.5)


@pytest.fixture(autouse=True)
def _global_generator_is_left_alone() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


@pytest.fixture
def compiled() -> Iterator[Callable[..., Callable]]:
    """``torch.compile`` of the whole graph, with nothing left over from other tests."""
    torch.compiler.reset()
    yield lambda function, backend="aot_eager": torch.compile(function, fullgraph=True, backend=backend)
    torch.compiler.reset()


class Own(Gaussian):
    """A distribution of one's own that multiplies matrices."""

    def begin(self, mean, std):
        return super().begin(mean @ torch.eye(mean.shape[1]), std)

    def answer(self, state):
        return state.mean @ torch.eye(state.mean.shape[1]).roll(1, 0)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def search(target: Tensor, mean: Tensor, std: Tensor, **options) -> Tensor:
    """The answer of `dcem`, drawn from the global generator."""
    options = {"num_candidates": 12, "num_elites": 4, "num_iterations": 1, **options}
    return dcem(lambda x: (x - target.unsqueeze(1)).square().sum(-1), mean, std, **options).mean


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The value of a function from seed 0, and the gradients of the sum of its sine."""
    torch.manual_seed(0)
    leaves = [leaf.detach().clone().requires_grad_() for leaf in inputs]
    value = function(*leaves)
    return value.detach(), *torch.autograd.grad(value.sin().sum(), leaves, materialize_grads=True)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("temperature", [0.5, HALF], ids=["number", "tensor"])
def test_lml_compiles_as_one_graph(compiled, backend: str, temperature: float | Tensor) -> None:
    def function(scores: Tensor) -> Tensor:
        return lml(scores, 3, temperature)

    scores = normal(4, 8, dtype=torch.float32)
    got, wanted = with_gradients(compiled(function, backend), scores), with_gradients(function, scores)
    assert_close(got, wanted, rtol=0, atol=1e-6)


def test_lml_compiles_with_a_temperature_that_is_learned(compiled) -> None:
    def function(scores: Tensor, temperature: Tensor) -> Tensor:
        return lml(scores, 3, temperature)

    inputs = (normal(4, 8), HALF.double())
    assert_close(with_gradients(compiled(function), *inputs), with_gradients(function, *inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [2, 4])
def test_a_row_with_nothing_finite_is_nan_under_compile(compiled, k: int) -> None:
    scores = torch.tensor([[math.nan, math.inf, -math.inf, math.nan], [1.0, 2.0, math.nan, 4.0]])
    weights = compiled(lambda scores: lml(scores, k))(scores)
    assert weights[0].isnan().all()
    assert_close(weights[1], lml(scores[1], k))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_problem_with_nothing_finite_has_a_nan_answer_under_compile(compiled, temperature: float) -> None:
    marks = torch.tensor([[0.0], [math.nan], [0.0]])

    def function(mean: Tensor, std: Tensor) -> Tensor:
        return dcem(lambda x: x.sum(-1) + marks, mean, std, num_iterations=1, temperature=temperature).mean

    answer = compiled(function)(*START)
    assert answer.isnan().all(1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.0, "num_kept": 2, "num_iterations": 2},
        {"lower": -0.5, "upper": torch.tensor([0.8, 0.1]), "momentum": 0.1, "noise_exponent": 1.0, "horizon": 2},
        pytest.param({"num_iterations": 2, "grad_iterations": 1}, marks=pytest.mark.slow),
        pytest.param({"num_iterations": 2, "checkpoint": True}, marks=pytest.mark.slow),
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_dcem_compiles_as_one_graph(compiled, options: dict) -> None:
    def function(target: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return search(target, mean, std, **options)

    got, wanted = with_gradients(compiled(function), TARGET, *START), with_gradients(function, TARGET, *START)
    assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_dcem_compiles_to_machine_code(compiled) -> None:
    with torch._inductor.config.patch(fallback_random=True):
        got = with_gradients(compiled(search, "inductor"), TARGET, *START)
    assert_close(got, with_gradients(search, TARGET, *START), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, None)])
def test_vmap_of_lml_is_a_loop(in_dims: tuple[int | None, int | None]) -> None:
    scores = normal(5, 5, 8)
    temperature = torch.linspace(0.5, 2, 5).double() if in_dims[1] == 0 else HALF.double()
    got = vmap(lambda x, t: lml(x, 3, t), in_dims)(scores, temperature)
    rows = [scores] * 5 if in_dims[0] is None else scores.unbind(in_dims[0])
    loop = [lml(x, 3, t) for x, t in zip(rows, temperature.expand(5), strict=True)]
    assert_close(got, torch.stack(loop), rtol=0, atol=1e-14)


def test_nested_vmap_of_lml() -> None:
    scores = normal(2, 3, 8)
    got = vmap(vmap(lambda x: lml(x, 3)))(scores)
    assert_close(got, lml(scores, 3), rtol=0, atol=1e-14)


def test_grad_and_vjp_of_lml() -> None:
    scores, temperature = normal(4, 8), HALF.double()
    got = grad(lambda x, t: lml(x, 3, t).sin().sum(), argnums=(0, 1))(scores, temperature)
    wanted = with_gradients(lambda x, t: lml(x, 3, t), scores, temperature)
    assert_close(got, wanted[1:], rtol=0, atol=1e-14)
    value, pull = vjp(lambda x: lml(x, 3, temperature), scores)
    assert_close((value, *pull(value.cos())), wanted[:2], rtol=0, atol=1e-14)


def test_grad_of_each_row_is_grad_of_all() -> None:
    scores = normal(4, 8)
    got = vmap(grad(lambda x: lml(x, 3).sin().sum()))(scores)
    assert_close(got, with_gradients(lambda x: lml(x, 3), scores)[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("temperature", [0.7, torch.tensor(0.7).double()], ids=["number", "tensor"])
def test_forward_and_reverse_jacobians_of_lml_agree(temperature: float | Tensor) -> None:
    scores = normal(6)
    weights = lml(scores, 2, temperature)
    slope = weights * (1 - weights)
    theory = (slope.diag() - slope.outer(slope) / slope.sum()) / float(temperature)
    assert_close(jacrev(lambda x: lml(x, 2, temperature))(scores), theory, rtol=0, atol=1e-13)
    assert_close(jacfwd(lambda x: lml(x, 2, temperature))(scores), theory, rtol=0, atol=1e-13)


def test_second_derivatives_of_lml_agree_in_all_modes() -> None:
    def function(x: Tensor, t: Tensor) -> Tensor:
        return (lml(x, 2, t) * torch.arange(6)).sum()

    inputs = (normal(6), torch.tensor(0.7).double())
    wanted = torch.autograd.functional.hessian(function, inputs)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacrev)):
        got = outer(inner(function, argnums=(0, 1)), argnums=(0, 1))(*inputs)
        assert_close(got[0][0], wanted[0][0], rtol=0, atol=1e-12)
        assert_close(got[0][1].flatten(), wanted[0][1].flatten(), rtol=0, atol=1e-12)
        assert_close(got[1][1].flatten(), wanted[1][1].flatten(), rtol=0, atol=1e-12)


def test_jvp_of_lml_is_a_finite_difference() -> None:
    inputs, tangents, step = (normal(4, 8), HALF.double()), (normal(4, 8, seed=1), torch.tensor(0.3).double()), 1e-6
    value, change = jvp(lambda x, t: lml(x, 3, t), inputs, tangents)
    plus, minus = (lml(inputs[0] + h * tangents[0], 3, inputs[1] + h * tangents[1]) for h in (step, -step))
    assert_close(value, lml(inputs[0], 3, inputs[1]), rtol=0, atol=0)
    assert_close(change, (plus - minus) / (2 * step), rtol=0, atol=1e-8)


@pytest.mark.parametrize("solver_options", [{"num_iterations": 3}, {"num_iterations": 3, "temperature": 0.0}])
def test_vmap_over_dcem_is_a_loop(solver_options: dict) -> None:
    targets = normal(4, 3, 2, dtype=torch.float32)
    torch.manual_seed(0)
    got = vmap(lambda target: search(target, *START, **solver_options), randomness="same")(targets)
    for one, target in zip(got, targets, strict=True):
        torch.manual_seed(0)
        assert_close(one, search(target, *START, **solver_options))


def test_grad_and_jacobians_of_dcem() -> None:
    torch.manual_seed(0)
    got = grad(lambda target: search(target, *START, num_iterations=3).sin().sum())(TARGET)
    wanted = with_gradients(lambda target: search(target, *START, num_iterations=3), TARGET)[1]
    assert_close(got, wanted)
    torch.manual_seed(0)
    forward = jacfwd(lambda target: search(target, *START), randomness="same")(TARGET)
    torch.manual_seed(0)
    assert_close(forward, jacrev(lambda target: search(target, *START))(TARGET))


@pytest.mark.parametrize("solver", [dcem, cem])
def test_autocast_of_the_objective_leaves_the_solution_in_float32(solver) -> None:
    torch.manual_seed(0)
    energy, seen = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 1)), set()

    def objective(x: Tensor) -> Tensor:
        seen.add(energy(x).dtype)
        return energy(x).squeeze(-1)

    with torch.autocast("cpu", torch.bfloat16):
        solution = solver(objective, *START, num_candidates=12, num_elites=4, lower=-1.0, upper=1.0, trace=True)
        descended = unrolled_gd(objective, START[0])
    assert seen == {torch.bfloat16}
    for result in (solution, descended):
        for name in ("mean", "std", "value", "best", "best_value"):
            assert getattr(result, name).dtype == torch.float32
            assert getattr(result, name).isfinite().all()
    assert {i.values.dtype for i in solution.trace} == {i.candidates.dtype for i in solution.trace} == {torch.float32}
    (solution.value.sum() + descended.mean.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in energy[:-1].parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"distribution": FullGaussian()},
        {"distribution": CMA()},
        {"noise": Spline(3, horizon=6)},
        {"distribution": Own()},
    ],
    ids=["FullGaussian", "CMA", "Spline", "own"],
)
def test_autocast_changes_nothing_but_the_objective(options) -> None:
    """So a search whose objective has no products is the same under autocast."""

    def objective(x):
        return (x - 0.3).square().sum(-1) + (x - x.roll(1, -1)).square().sum(-1)

    def solve():
        generator = torch.Generator().manual_seed(0)
        return minimize(objective, torch.zeros(2, 6), checkpoint=True, generator=generator, **options)

    theirs = solve()
    with torch.autocast("cpu", torch.bfloat16):
        ours = solve()
    assert_close((ours.mean, ours.std, ours.best), (theirs.mean, theirs.std, theirs.best), rtol=0, atol=0)


@pytest.mark.parametrize("interpolation", ["linear", "constant"])
def test_autocast_leaves_knots_in_full_precision(interpolation) -> None:
    class Sum:
        def step(self, state: Tensor, action: Tensor) -> Tensor:
            return state + action

        def reward(self, state: Tensor, action: Tensor) -> Tensor:
            return -(state - 1).square().sum(-1)

    solver = DCEM(temperature=0.0, num_candidates=20, num_elites=4, num_iterations=3)
    planner = Planner(Sum(), solver, 7, 2, lower=-1.0, upper=1.0, knots=3, interpolation=interpolation)

    def plans():
        generator, state = torch.Generator().manual_seed(0), torch.zeros(2, 2)
        first = planner(state, generator=generator)
        return first.actions, planner(state, first.memory, generator=generator).actions

    theirs = plans()
    with torch.autocast("cpu", torch.bfloat16):
        ours = plans()
    assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize(("given", "kept"), [("float64", "float64"), ("bfloat16", "float32"), ("float16", "float32")])
def test_precision_of_the_solution_is_that_of_the_mean_or_float32(given: str, kept: str) -> None:
    mean, std = (tensor.to(getattr(torch, given)) for tensor in START)
    solution = dcem(lambda x: x.square().sum(-1), mean, std, lower=-1.0, num_kept=1)
    tensors = (solution.mean, solution.std, solution.value, solution.best, solution.best_value)
    assert {tensor.dtype for tensor in tensors} == {getattr(torch, kept)}
