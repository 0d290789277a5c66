"""Properties of the LML projection that hold for all scores, searched for counterexamples by hypothesis."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lit_dcem import lml
from lit_dcem.solvers.ranking import hard_top_k

quick = settings(deadline=None, derandomize=True, max_examples=100)
temperatures = st.floats(1e-3, 1e3)


@st.composite
def problems(draw: st.DrawFn, low: float = -50, high: float = 50) -> tuple[Tensor, int]:
    """Scores in float64 and a k below their number."""
    scores = draw(st.lists(st.floats(low, high), min_size=2, max_size=30))
    return torch.tensor(scores, dtype=torch.float64), draw(st.integers(1, len(scores) - 1))


@quick
@given(problems(-1e6, 1e6), temperatures)
def test_feasible(problem: tuple[Tensor, int], temperature: float) -> None:
    scores, k = problem
    weights = lml(scores, k, temperature)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert_close(weights.sum().item(), float(k), rtol=0, atol=1e-12 * len(scores))


@quick
@given(problems(-1e6, 1e6), temperatures)
def test_feasible_in_float32(problem: tuple[Tensor, int], temperature: float) -> None:
    scores, k = problem
    weights = lml(scores.float(), k, temperature)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert_close(weights.double().sum().item(), float(k), rtol=1e-5, atol=0)


@quick
@given(problems(), temperatures)
def test_larger_scores_get_no_smaller_weights(problem: tuple[Tensor, int], temperature: float) -> None:
    scores, k = problem
    ordered = lml(scores, k, temperature)[scores.argsort()]
    # Torch's vectorised exp2 and the one for the elements that are left over differ in the last bit.
    assert (ordered.diff() >= -torch.finfo(torch.float64).eps).all()


@quick
@given(problems(-5, 5), st.integers(0, 29), st.floats(0.1, 5))
def test_raising_a_score_raises_its_weight_at_the_cost_of_the_others(problem, index: int, rise: float) -> None:
    scores, k = problem
    raised = scores.clone()
    raised[index % len(scores)] += rise
    change = lml(raised, k) - lml(scores, k)
    others = torch.arange(len(scores)) != index % len(scores)
    assert change[~others].item() > 0
    assert (change[others] < 0).all()


@quick
@given(problems(), temperatures, st.randoms(use_true_random=False))
def test_permutation_equivariant(problem: tuple[Tensor, int], temperature: float, random) -> None:
    scores, k = problem
    order = torch.tensor(random.sample(range(len(scores)), len(scores)))
    assert_close(lml(scores[order], k, temperature), lml(scores, k, temperature)[order], rtol=0, atol=1e-13)


@quick
@given(problems(), st.floats(-100, 100))
def test_shift_invariant(problem: tuple[Tensor, int], shift: float) -> None:
    scores, k = problem
    assert_close(lml(scores + shift, k), lml(scores, k), rtol=0, atol=1e-12)


@quick
@given(problems(), temperatures)
def test_scale_of_scores_is_inverse_temperature(problem: tuple[Tensor, int], temperature: float) -> None:
    scores, k = problem
    assert_close(lml(scores, k, temperature), lml(scores / temperature, k), rtol=0, atol=1e-9)


@quick
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30, unique=True), st.data())
def test_low_temperature_is_the_hard_top_k(integers: list[int], data: st.DataObject) -> None:
    scores, k = torch.tensor(integers, dtype=torch.float64), data.draw(st.integers(1, len(integers) - 1))
    weights = lml(scores, k, 1e-3)
    assert_close(weights, hard_top_k(scores, k), rtol=0, atol=1e-12)
    assert torch.equal(weights > 0.5, scores >= scores.sort().values[-k])


@quick
@given(problems())
def test_high_temperature_shares_equally(problem: tuple[Tensor, int]) -> None:
    scores, k = problem
    assert_close(lml(scores, k, 1e10), torch.full_like(scores, k / len(scores)), rtol=0, atol=1e-7)


@quick
@given(problems(), temperatures)
def test_leaving_out_is_choosing_the_rest(problem: tuple[Tensor, int], temperature: float) -> None:
    scores, k = problem
    rest = lml(-scores, len(scores) - k, temperature)
    assert_close(rest, 1 - lml(scores, k, temperature), rtol=0, atol=1e-13)


@quick
@given(problems(-3, 3), st.floats(0.3, 3), st.floats(0.1, 10))
def test_maximises_the_regularised_objective(problem: tuple[Tensor, int], temperature: float, size: float) -> None:
    """No feasible step away from the weights improves ``scores . y + temperature * H_b(y)``."""
    scores, k = problem
    best = lml(scores, k, temperature)
    other = lml(scores.flip(0) * size, k, temperature)

    def objective(y: Tensor) -> float:
        entropy = -(torch.special.xlogy(y, y) + torch.special.xlogy(1 - y, 1 - y)).sum()
        return (scores @ y + temperature * entropy).item()

    for step in (0.01, 0.3, 1.0):
        assert objective(best) >= objective(torch.lerp(best, other, step)) - 1e-10
