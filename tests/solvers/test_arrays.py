"""What NumPy computes for small searches on a CPU is what the plain implementation computes, with its derivatives."""

import functools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_dcem import dcem, lml
from lit_dcem.solvers import iteration, root


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answers(target: Tensor, mean: Tensor, **options) -> Tensor:
    """Mean, standard deviation and the weights of the second iteration of a search."""
    torch.manual_seed(0)
    solution = dcem(lambda x: (x - target.unsqueeze(1)).square().sum(-1).sqrt(), mean, 1.0, trace=True, **options)
    assert solution.trace is not None
    return torch.cat([solution.mean, solution.std, solution.trace[1].weights], 1)


def derivatives(function, *inputs: Tensor) -> list[Tensor]:
    """Value, gradient, gradient with a graph, and gradient of that."""
    value = function(*inputs)
    loss = value.sin().sum()
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    again = torch.autograd.grad(loss, inputs, create_graph=True)
    return [value, *first, *again, *torch.autograd.grad(torch.cat(again).square().sum(), inputs)]


@pytest.mark.parametrize("problems", [1, 5])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.1, "min_std": 0.3, "lower": -1.0, "temperature": 0.2}])
def test_a_small_search_and_its_derivatives_are_those_of_the_parts(monkeypatch, problems: int, options: dict) -> None:
    inputs = [normal(problems, 3, seed=seed).requires_grad_() for seed in (0, 1)]
    search = functools.partial(answers, num_candidates=30, num_elites=4, num_iterations=3, **options)
    fused = derivatives(search, *inputs)
    assert_close(fused[1:3], fused[3:5], rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(iteration, "suits_arrays", lambda tensor: False)
    assert_close(fused, derivatives(search, *inputs), rtol=1e-9, atol=1e-12)


def test_a_vectorized_jacobian_of_a_small_search() -> None:
    def mean(target: Tensor) -> Tensor:
        return answers(target, torch.zeros(2, 3).double(), num_candidates=20, num_iterations=2)[:, :3]

    row, all_at_once = (
        torch.autograd.functional.jacobian(mean, normal(2, 3), vectorize=vectorize) for vectorize in (False, True)
    )
    assert_close(row, all_at_once, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("without_numpy", [False, True])
def test_rows_one_by_one_all_together_and_by_torch_have_the_same_weights(monkeypatch, dtype, without_numpy) -> None:
    scores = 3 * normal(8, 50).to(dtype)
    one_by_one = torch.stack([lml(row, 6, 0.5) for row in scores])
    if without_numpy:
        monkeypatch.setattr(root, "np", None)
    assert_close(lml(scores, 6, 0.5), one_by_one, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_values_of_any_scale_have_finite_derivatives(scale: float) -> None:
    target = normal(1, 2).float().requires_grad_()
    torch.manual_seed(0)
    solution = dcem(lambda x: scale * (x - target.unsqueeze(1)).square().sum(-1), torch.zeros(1, 2), 1.0)
    (gradient,) = torch.autograd.grad(solution.mean.sum(), target)
    assert gradient.isfinite().all() and bool((gradient == 0).all()) == (scale == 0)


@pytest.mark.parametrize("offset", [1.0, 1e3])
@pytest.mark.parametrize("fused", [True, False])
def test_a_search_far_from_zero_ends_at_the_rounding_of_its_answer(monkeypatch, offset: float, fused: bool) -> None:
    """A mean with a larger error would keep the spread above rounding, and no search would ever have collapsed."""
    monkeypatch.setattr(iteration, "suits_arrays", lambda tensor: fused)
    target = offset * torch.tensor([[2.0, 1.5], [-1.0, 3.0], [0.7, -2.0], [1.1, 1.3]])
    options = {"num_iterations": 30, "temperature": 0.1, "generator": torch.Generator().manual_seed(0)}
    solution = dcem(lambda x: (x - target.unsqueeze(1)).square().sum(-1), target + 0.5 * offset, offset, **options)
    assert solution.has_collapsed.all() or not fused  # torch's sums round a little more
    assert_close(solution.mean, target, rtol=4 * torch.finfo(torch.float32).eps, atol=0)
