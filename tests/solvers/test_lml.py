"""The LML projection against golden values, a bisection in float64, finite differences and its documented edges."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from lit_dcem import LML, lml
from lit_dcem.solvers.ranking import hard_top_k

GOLDEN = json.loads((Path(__file__).with_name("golden.json")).read_text())["cases"]
SCALES = (1e-3, 1.0, 30.0, 1e3, 1e5)
KINDS = ("normal", "uniform", "exponential", "cauchy", "bimodal", "ties", "outlier_above", "outlier_below")
SIZES = ((2, 1), (3, 2), (20, 1), (20, 19), (100, 10), (1000, 100), (1000, 500), (10000, 1), (10000, 10), (10000, 9000))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bisected(scores: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Weights and slopes ``y (1 - y)`` in float64 by 200 halvings, with the origin midway between in and out."""
    scores = scores.double()
    ordered = scores.sort(-1, descending=True).values
    centre = ordered[..., k - 1 : k + 1].mean(-1, keepdim=True)
    top, rest = ((part - centre) / temperature for part in (ordered[..., :k], ordered[..., k:]))
    span = 2 * math.log(scores.shape[-1]) + 1 + (ordered[..., k - 1] - ordered[..., k]).unsqueeze(-1) / temperature
    low, high = -span, span
    for _ in range(200):
        middle = (low + high) / 2
        too_much = (rest + middle).sigmoid().sum(-1, keepdim=True) > (-top - middle).sigmoid().sum(-1, keepdim=True)
        low, high = torch.where(too_much, low, middle), torch.where(too_much, middle, high)
    logits = (scores - centre) / temperature + (low + high) / 2
    return logits.sigmoid(), logits.sigmoid() * (-logits).sigmoid()


def vjp_by_formula(slope: Tensor, grad: Tensor, temperature: float = 1.0) -> Tensor:
    """Section 1 of the paper: ``s / temperature * (g - mean of g under s)``."""
    total = slope.sum(-1, keepdim=True).clamp_min(1e-300)
    return slope / temperature * (grad - (slope * grad).sum(-1, keepdim=True) / total)


def vjp(scores: Tensor, k: int, grad: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    scores = scores.detach().requires_grad_()
    weights = lml(scores, k, temperature)
    return weights.detach(), torch.autograd.grad(weights, scores, grad)[0]


def stress_rows(kind: str, n: int) -> Tensor:
    """A row of scores for each of `SCALES`, and one in which everything is 1e6 apart."""
    base = normal(n, seed=n)
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    rows = {
        "normal": base,
        "uniform": uniform,
        "exponential": -(1 - uniform).log(),
        "cauchy": (math.pi * (uniform - 0.5)).tan().clamp(-1e5, 1e5),
        "bimodal": base * 0.1 + (uniform > 0.5) * 10,
        "ties": (base * 2).round(),
        "outlier_above": torch.cat([base[1:], base.new_tensor([1e5])]),
        "outlier_below": torch.cat([base[1:], base.new_tensor([-1e5])]),
    }[kind]
    return torch.stack([*(rows * scale for scale in SCALES), 1e6 * torch.arange(n).double()]).float()


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"n{len(case['x'])}-k{case['k']}-t{case['temperature']}")
def test_golden_values(case: dict) -> None:
    x, y, grad_y, grad_x = (torch.tensor(case[name], dtype=torch.float64) for name in ("x", "y", "grad_y", "grad_x"))
    weights, grad = vjp(x, case["k"], grad_y, case["temperature"])
    assert_close(weights, y, rtol=0, atol=2e-13)
    assert_close(grad, grad_x, rtol=0, atol=2e-12 / case["temperature"])


@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_accurate_on_the_stress_set(kind: str, n: int, k: int) -> None:
    scores = stress_rows(kind, n)
    grad = normal(*scores.shape, seed=1).clamp(-1, 1)
    weights, grad_scores = vjp(scores, k, grad.float())
    expected, slope = bisected(scores, k)
    assert weights.dtype == torch.float32
    assert (weights.double().sum(-1) - k).abs().max() <= 1e-5 * k
    assert_close(weights.double(), expected, rtol=0, atol=2e-6)
    assert_close(grad_scores.double(), vjp_by_formula(slope, grad), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_float64_is_accurate_on_the_stress_set(kind: str, n: int, k: int) -> None:
    scores, grad = stress_rows(kind, n).double(), normal(len(SCALES) + 1, n, seed=1).clamp(-1, 1)
    weights, grad_scores = vjp(scores, k, grad)
    expected, slope = bisected(scores, k)
    assert_close(weights, expected, rtol=0, atol=1e-13)
    assert_close(grad_scores, vjp_by_formula(slope, grad), rtol=0, atol=1e-12)


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e6, -1e6])
def test_a_common_offset_costs_no_accuracy(offset: float) -> None:
    scores = normal(4, 1000, dtype=torch.float32) + offset
    weights = lml(scores, 100)
    assert (weights.double().sum(-1) - 100).abs().max() <= 1e-5 * 100
    assert_close(weights.double(), bisected(scores, 100)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.1, 10.0, 1e3, 1e6])
def test_any_temperature_is_accurate_in_float32(temperature: float) -> None:
    scores, grad = normal(4, 100, dtype=torch.float32), normal(4, 100, seed=1).clamp(-1, 1)
    weights, grad_scores = vjp(scores, 10, grad.float(), temperature)
    expected, slope = bisected(scores, 10, temperature)
    assert_close(weights.double(), expected, rtol=0, atol=2e-6)
    assert_close(grad_scores.double(), vjp_by_formula(slope, grad, temperature), rtol=0, atol=1e-5 / temperature)


@pytest.mark.parametrize("temperature", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_temperatures_are_finite(temperature: float, dtype: torch.dtype) -> None:
    weights, grad = vjp(normal(4, 100, dtype=dtype), 10, normal(4, 100, seed=1, dtype=dtype), temperature)
    assert_close(weights.sum(-1), torch.full((4,), 10.0, dtype=dtype))
    assert grad.isfinite().all()


@pytest.mark.parametrize("temperature_shape", [(), (3, 1)])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_first_and_second_derivatives_match_finite_differences(k: int, temperature_shape: tuple[int, ...]) -> None:
    scores = normal(3, 7).requires_grad_()
    temperature = (normal(*temperature_shape, seed=1).abs() + 0.5).requires_grad_()
    inputs = (scores, temperature)
    assert gradcheck(lambda x, t: lml(x, k, t), inputs, rtol=1e-6, atol=1e-8)
    assert gradgradcheck(lambda x, t: lml(x, k, t), inputs, rtol=1e-6, atol=1e-8)


def test_a_temperature_per_row_is_that_row_at_its_temperature() -> None:
    scores, temperatures = normal(3, 20), (0.1, 1.0, 10.0)
    together = lml(scores, 4, torch.tensor(temperatures).unsqueeze(1))
    apart = [lml(row, 4, torch.tensor(t).item()) for row, t in zip(scores, temperatures, strict=True)]
    assert_close(together, torch.stack(apart), rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)])
@pytest.mark.parametrize("k", [3, 5])
def test_any_leading_shape(batch: tuple[int, ...], k: int) -> None:
    scores = normal(*batch, 5)
    weights, grad = vjp(scores, k, torch.ones_like(scores))
    assert weights.shape == grad.shape == scores.shape
    assert_close(weights.reshape(-1, 5), lml(scores.reshape(-1, 5), k), rtol=0, atol=1e-15)
    assert_close(weights.sum(-1), torch.full(batch, float(k), dtype=torch.float64))


def test_k_equal_to_n_gives_weight_one_and_no_gradient() -> None:
    weights, grad = vjp(normal(3, 5), 5, normal(3, 5, seed=1))
    assert torch.equal(weights, torch.ones_like(weights))
    assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize(("n", "k"), [(2, 1), (10, 3), (1000, 999)])
@pytest.mark.parametrize("level", [0.0, -7.5, 1e6])
def test_constant_rows_share_equally(n: int, k: int, level: float) -> None:
    assert_close(lml(torch.full((2, n), level), k), torch.full((2, n), k / n), rtol=0, atol=1e-6)


def test_ties_get_equal_weights_bit_for_bit() -> None:
    weights = lml(torch.tensor([2.0, 1.0, 2.0, 1.0, 2.0, -3.0]), 3)
    assert weights[0] == weights[2] == weights[4] > weights[1] == weights[3] > weights[5]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("k", [1, 3, 4])
def test_broken_scores_get_nothing(broken: float, k: int) -> None:
    whole = normal(2, 4)
    scores = torch.cat([whole[:, :2], whole.new_full((2, 2), broken), whole[:, 2:]], 1)
    weights, grad = vjp(scores, k, normal(2, 6, seed=1))
    assert torch.equal(weights[:, 2:4], torch.zeros(2, 2, dtype=torch.float64))
    assert torch.equal(grad[:, 2:4], torch.zeros(2, 2, dtype=torch.float64))
    assert_close(weights[:, [0, 1, 4, 5]], lml(whole, k), rtol=0, atol=1e-13)
    assert grad.isfinite().all()


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("k", [3, 4, 5])
def test_fewer_finite_scores_than_k_get_one_each(k: int, scale: float, temperature: float) -> None:
    scores = scale * torch.tensor([[math.nan, 0.5, -math.inf, -2.0, math.inf]])
    weights, grad = vjp(scores, k, torch.tensor([[1.0, -2.0, 3.0, 4.0, 5.0]]), temperature)
    assert torch.equal(weights, torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]]))
    assert torch.equal(grad, torch.zeros(1, 5))


@pytest.mark.parametrize("project", [lml, hard_top_k])
@pytest.mark.parametrize("k", [2, 3])
def test_a_row_with_nothing_finite_is_nan_by_itself(project, k: int) -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [math.nan, math.inf, -math.inf]])
    weights = project(scores, k)
    assert weights[1].isnan().all()
    assert torch.equal(weights[0], project(scores[0], k))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    scores = normal(3, 50).to(dtype)
    weights, grad = vjp(scores, 5, torch.ones_like(scores))
    assert weights.dtype == grad.dtype == dtype
    assert torch.equal(weights, lml(scores.float(), 5).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_do_not_touch_each_other(dtype: torch.dtype) -> None:
    scores, grad = normal(5, 100, dtype=dtype), normal(5, 100, seed=1, dtype=dtype)
    changed = torch.cat([1e6 * scores[:1].flip(-1), scores[1:]])
    for before, after in zip(vjp(scores, 10, grad), vjp(changed, 10, grad), strict=True):
        assert torch.equal(before[1:], after[1:])
        assert not torch.equal(before[0], after[0])


def test_scores_are_left_as_they_were() -> None:
    scores = normal(3, 10)
    before = scores.clone()
    vjp(scores, 3, scores)
    assert torch.equal(scores, before)


@pytest.mark.parametrize(
    ("scores", "k", "temperature", "error", "message"),
    [
        (torch.zeros(4), 0, 1.0, ValueError, r"k must be between 1 and .*, got 0 and 4\."),
        (torch.zeros(4), 5, 1.0, ValueError, r"k must be between 1 and .*, got 5 and 4\."),
        (torch.zeros(4), 2, 0.0, ValueError, r"temperature must be positive and finite, got 0\.0\."),
        (torch.zeros(4), 2, -1.5, ValueError, r"temperature must be positive and finite, got -1\.5\."),
        (torch.zeros(4), 2, math.inf, ValueError, r"temperature must be positive and finite, got inf\."),
        (torch.zeros(4), 2, math.nan, ValueError, r"temperature must be positive and finite, got nan\."),
        (torch.zeros(()), 1, 1.0, ValueError, r"scores must have at least one dimension, got a scalar\."),
        (torch.zeros(4).long(), 2, 1.0, TypeError, r"scores must be a floating point tensor, got torch\.int64\."),
        ([1.0, 2.0], 1, 1.0, TypeError, r"scores must be a floating point tensor, got list\."),
    ],
)
def test_wrong_arguments_raise_the_rule_and_the_value(scores, k, temperature, error, message) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        lml(scores, k, temperature)


def test_module_is_the_function() -> None:
    layer = LML(3, temperature=0.5)
    assert torch.equal(layer(normal(2, 8)), lml(normal(2, 8), 3, 0.5))
    assert repr(layer) == "LML(k=3, temperature=0.5)"
