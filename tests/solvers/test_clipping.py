"""The bound on the gradient that goes through a search."""

import re

import pytest
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from torch.testing import assert_close

from lit_dcem import DCEM, Minimizer, Solution, dcem, minimize
from lit_dcem.solvers.clipping import clip_gradient
from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.weights import Softmax, SoftTopK

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning",  # by dynamo of torch 2.13
    "ignore:`torch.jit.script.* is deprecated:DeprecationWarning",
)

TARGET = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]], dtype=torch.float64)
START = torch.zeros(3, 2, dtype=torch.float64)
SEARCH = {"num_candidates": 12, "num_elites": 4, "num_iterations": 1}


def scaled(max_norm: float, weights: Tensor) -> Tensor:
    """The gradient of a weighted sum behind the bound."""
    values = torch.zeros_like(weights).requires_grad_()
    (gradient,) = torch.autograd.grad((clip_gradient(values, max_norm) * weights).sum(), values)
    return gradient


def test_long_rows_are_shortened_and_others_are_as_they_are():
    weights = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [3e30, 4e30]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0], [0.6, 0.8]])
    assert_close(scaled(1.0, weights), expected)
    assert_close(scaled(1e-6, weights[:2]), torch.tensor([[6e-7, 8e-7], [6e-7, 8e-7]]))


def test_values_are_as_they_are():
    values = torch.randn(2, 3, 4)
    assert torch.equal(clip_gradient(values, 1e-9), values)


@pytest.mark.parametrize("dim", [0, 1])
def test_rows_of_vmap_are_rows(dim):
    gradients = vmap(grad(lambda row: (5 * clip_gradient(row, 0.5)).sum()), in_dims=dim)(torch.randn(3, 4))
    assert_close(gradients.norm(dim=-1), torch.full((len(gradients),), 0.5))


def test_forward_mode_is_that_of_the_identity():
    direction = torch.randn(2, 3)
    assert torch.equal(jvp(lambda values: clip_gradient(values, 0.1), (torch.zeros(2, 3),), (direction,))[1], direction)


def test_compiles_as_one_graph():
    torch.compiler.reset()
    function = torch.compile(lambda x: clip_gradient(3 * x, 0.5).sum(), fullgraph=True, backend="aot_eager")
    leaf = torch.randn(2, 4, requires_grad=True)
    function(leaf).backward()
    assert leaf.grad is not None
    assert_close(leaf.grad.norm(dim=-1), torch.full((2,), 1.5))
    torch.compiler.reset()


# ---- in a search -----------------------------------------------------------------------------------------------------


def through_scores(clip: float | None, loss=lambda solution: solution.mean.sum(), **options) -> tuple[Tensor, Tensor]:
    """Gradients of a loss of the solution in the values of the candidates ``[B, N]``, and in the target ``[B, D]``."""
    target = TARGET.to(options.pop("dtype", torch.float64)).requires_grad_()
    offsets = torch.zeros(3, options.get("num_candidates", 12), dtype=target.dtype, requires_grad=True)

    def objective(x: Tensor) -> Tensor:
        values = ((x - target.unsqueeze(1)).square() + (3 * x).sin() * target.unsqueeze(1)).sum(-1)
        return values + offsets if values.shape == offsets.shape else values

    options = {**SEARCH, **options, "generator": torch.Generator().manual_seed(0), "gradient_clip": clip}
    solution = dcem(objective, START.to(target), 1.0, **options)
    of_values, of_target = torch.autograd.grad(loss(solution), (offsets, target), materialize_grads=True)
    return of_values, of_target


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # the second takes the fused refit
@pytest.mark.parametrize("clip", [0.01, 0.1, 100.0])
def test_the_gradient_of_each_problem_is_shortened(clip, dtype):
    whole, _ = through_scores(None, dtype=dtype)
    shortened, _ = through_scores(clip, dtype=dtype)
    lengths = whole.norm(dim=1, keepdim=True)
    assert_close(shortened, whole * (clip / lengths).clamp(max=1))
    assert lengths.min() > 0.01 and lengths.max() < 100  # so that the bounds do what they are here for


@pytest.mark.parametrize("options", [{}, {"num_iterations": 3, "checkpoint": True}, {"temperature": torch.tensor(0.5)}])
def test_a_loose_bound_changes_nothing(options):
    for plain, bounded in zip(through_scores(None, **options), through_scores(1e9, **options), strict=True):
        assert_close(plain, bounded)


def test_checkpoints_give_the_same_gradient():
    options = {"num_iterations": 3}
    again = through_scores(0.01, checkpoint=True, **options)
    for plain, recomputed in zip(through_scores(0.01, **options), again, strict=True):
        assert_close(plain, recomputed)


def test_what_does_not_go_through_the_scores_is_not_bounded():
    def loss(solution: Solution) -> Tensor:
        return 1e3 * solution.best_value.sum()

    gradient, _ = through_scores(1e-3, loss)
    assert_close(gradient.sum(1), torch.full((3,), 1e3, dtype=torch.float64))


def test_a_steep_problem_does_not_shorten_the_others():
    def weighted(scale: float) -> Tensor:
        weights = torch.tensor([1.0, scale, 1.0], dtype=torch.float64)
        return through_scores(0.05, lambda solution: (solution.mean.sum(1) * weights).sum())[1]

    calm, steep = weighted(1.0), weighted(1e6)
    assert torch.equal(calm[[0, 2]], steep[[0, 2]])


@pytest.mark.parametrize("weighting", [SoftTopK(4), Softmax()])
@pytest.mark.parametrize("distribution", [Gaussian(), Gaussian(fixed_std=True)])
def test_every_weighting_and_distribution_takes_it(weighting, distribution):
    def gradient(clip: float | None) -> Tensor:
        target = TARGET.clone().requires_grad_()
        options = {"weighting": weighting, "distribution": distribution, "gradient_clip": clip}
        options["generator"] = torch.Generator().manual_seed(0)
        solution = minimize(lambda x: (x - target.unsqueeze(1)).square().sum(-1), START, **options)
        return torch.autograd.grad(solution.mean.sum(), target)[0]

    assert gradient(1e-4).norm() < gradient(None).norm() / 10


@pytest.mark.parametrize("clip", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("build", [DCEM, Minimizer])
def test_a_bound_that_is_none_is_one_sentence(build, clip):
    with pytest.raises(ValueError, match=rf"gradient_clip must be positive and finite, got {re.escape(str(clip))}\.$"):
        build(gradient_clip=clip)
