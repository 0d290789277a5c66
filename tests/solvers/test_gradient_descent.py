"""Unrolled gradient descent: its steps, its second-order gradients, and what it does without gradients."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from lit_dcem import Objective, UnrolledGD, unrolled_gd

TARGET = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]], dtype=torch.float64)
START = torch.tensor([[0.1, 0.2], [-0.3, 0.0], [1.0, -1.0]], dtype=torch.float64)


def wavy(target: Tensor) -> Objective:
    return lambda x: ((x - target.unsqueeze(1)).square() / 2 + (2 * x).sin() * target.unsqueeze(1)).sum(-1)


def slope(target: Tensor, x: Tensor) -> Tensor:
    """Derivative of `wavy` by hand."""
    return x - target + 2 * (2 * x).cos() * target


def descend(target: Tensor, initial: Tensor, num_steps: int, lr: float) -> list[Tensor]:
    """Every iterate, by hand."""
    points = [initial]
    for _ in range(num_steps):
        points.append(points[-1] - lr * slope(target, points[-1]))
    return points


@pytest.mark.parametrize(("num_steps", "lr"), [(0, 0.1), (1, 0.3), (7, 0.05)])
def test_steps_by_hand(num_steps: int, lr: float) -> None:
    solution = unrolled_gd(wavy(TARGET), START, num_steps=num_steps, lr=lr, trace=True)
    points = descend(TARGET, START, num_steps, lr)
    assert_close(solution.mean, points[-1], rtol=0, atol=1e-14)
    assert len(solution.trace) == num_steps
    for i, point in zip(solution.trace, points, strict=False):
        assert_close(i.mean, point, rtol=0, atol=1e-14)
        assert torch.equal(i.candidates, i.mean.unsqueeze(1))
        assert_close(i.values, wavy(TARGET)(i.candidates), rtol=0, atol=1e-14)


def test_solution_fields() -> None:
    solution = unrolled_gd(wavy(TARGET), START, num_steps=6, lr=0.6, trace=True)
    assert torch.equal(solution.std, torch.zeros_like(START))
    assert torch.equal(solution.value, wavy(TARGET)(solution.mean.unsqueeze(1)).squeeze(1))
    assert torch.equal(solution.best_value, wavy(TARGET)(solution.best.unsqueeze(1)).squeeze(1))
    met = torch.cat([solution.value.unsqueeze(1), *(i.values for i in solution.trace)], 1)
    assert torch.equal(solution.best_value, met.amin(1))
    assert (solution.best_value < solution.value).any()
    assert unrolled_gd(wavy(TARGET), START).trace is None


def test_quadratic_is_solved() -> None:
    solution = unrolled_gd(lambda x: (x - TARGET.unsqueeze(1)).square().sum(-1), START, num_steps=100, lr=0.1)
    assert_close(solution.mean, TARGET, rtol=0, atol=1e-8)


@pytest.mark.parametrize("field", ["mean", "value", "best", "best_value"])
def test_gradients_match_finite_differences(field: str) -> None:
    def solve(target: Tensor, initial: Tensor) -> Tensor:
        return getattr(unrolled_gd(wavy(target), initial, num_steps=4, lr=0.2), field)

    leaves = (TARGET.clone().requires_grad_(), START.clone().requires_grad_())
    assert gradcheck(solve, leaves, rtol=1e-6, atol=1e-8)
    assert gradgradcheck(solve, leaves, rtol=1e-6, atol=1e-8)


def test_gradient_of_the_objective_alone_needs_no_gradient_of_the_start() -> None:
    target = TARGET.clone().requires_grad_()
    solution = unrolled_gd(wavy(target), START, num_steps=4, lr=0.2)
    by_hand = descend(target, START, 4, 0.2)[-1]
    got, wanted = (torch.autograd.grad(end.sin().sum(), target)[0] for end in (solution.mean, by_hand))
    assert_close(got, wanted, rtol=0, atol=1e-13)
    assert not START.requires_grad


def test_without_gradients_the_steps_are_the_same_and_leave_no_graph() -> None:
    target, start = TARGET.clone().requires_grad_(), START.clone().requires_grad_()
    expected = unrolled_gd(wavy(target), start)
    with torch.no_grad():
        quiet = unrolled_gd(wavy(target), start, trace=True)
    for name in ("mean", "value", "best", "best_value"):
        assert torch.equal(getattr(quiet, name), getattr(expected, name))
        assert not getattr(quiet, name).requires_grad
    assert not any(i.candidates.requires_grad or i.values.requires_grad for i in quiet.trace[1:])
    assert (target.grad, start.grad) == (None, None)


def test_inference_mode_raises_one_sentence() -> None:
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"^[^.]*, got torch\.inference_mode\(\): [^.]*torch"),
    ):
        unrolled_gd(wavy(TARGET), START)


def test_problems_do_not_touch_each_other() -> None:
    changed = torch.cat([100 * TARGET[:1], TARGET[1:]]).requires_grad_()
    before, after = unrolled_gd(wavy(TARGET), START, lr=0.2), unrolled_gd(wavy(changed), START, lr=0.2)
    for name in ("mean", "value", "best", "best_value"):
        assert torch.equal(getattr(before, name)[1:], getattr(after, name)[1:])
        assert not torch.equal(getattr(before, name)[0], getattr(after, name)[0])
    gradient = torch.autograd.grad(after.mean[1].sum(), changed)[0]
    assert torch.equal(gradient[[0, 2]], torch.zeros(2, 2, dtype=torch.float64))


def test_the_best_point_is_finite_where_descent_diverges() -> None:
    """Beyond the edge of the objective's domain its values are NaN: the best point is the least finite one."""
    solution = unrolled_gd(lambda x: -(1 - x).sqrt().sum(-1) - 9 * x.sum(-1), START[:1] * 0, num_steps=4, lr=0.1)
    assert solution.value.isnan().all()
    assert solution.best_value.isfinite().all()
    assert solution.best.isfinite().all()


def test_a_solution_says_how_it_was_found() -> None:
    """Steps, bounds, and NaN in all of it for a problem without a finite value, as the other solvers do."""
    shift = torch.tensor([[0.0], [float("nan")]], dtype=torch.float64)
    options = {"num_steps": 8, "lr": 0.25, "lower": -1.0, "upper": 3.0}
    solution = unrolled_gd(lambda x: x.sum(-1) + shift, START[:2] * 0, **options)
    assert solution.num_iterations == 8 and solution.bounds == (-1.0, 3.0)
    assert solution.at_bound.tolist() == [[True, True], [False, False]]
    for name in ("mean", "std", "value", "best", "best_value"):
        first, second = getattr(solution, name)
        assert first.isfinite().all() and second.isnan().all()


def test_module_is_the_function() -> None:
    solver = UnrolledGD(num_steps=3, lr=0.2)
    assert torch.equal(solver(wavy(TARGET), START).mean, unrolled_gd(wavy(TARGET), START, num_steps=3, lr=0.2).mean)
    assert repr(solver) == "UnrolledGD(num_steps=3, lr=0.2)"


def test_traced_module_takes_other_steps_and_keeps_the_trace() -> None:
    solution = UnrolledGD(num_steps=3, lr=0.2).traced(5)(wavy(TARGET), START, torch.ones_like(START))
    assert torch.equal(solution.mean, unrolled_gd(wavy(TARGET), START, num_steps=5, lr=0.2).mean)
    assert len(solution.trace) == 5
