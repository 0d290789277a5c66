"""Options of the solvers in every form people have them: lists, NumPy, YAML; and refused, when they make no sense."""

import math

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch.testing import assert_close

from lit_dcem import (
    DCEM,
    LML,
    ActionDecoder,
    CartpoleEmbedding,
    EnergyNetwork,
    EnergyRegression,
    UnrolledGD,
    cem,
    dcem,
    lml,
    unrolled_gd,
)
from lit_dcem.solvers.cem import OPTIONS as DEFAULTS

START = (torch.zeros(3, 2), torch.ones(3, 2))
OPTIONS = {"num_candidates": 30, "num_elites": 5, "num_iterations": 4}
LOWER, UPPER = [-1.0, -2.0], [1.0, 0.5]
KINDS = {"list": list, "tuple": tuple, "array": np.array, "float32": np.float32, "tensor": torch.tensor}


def far_away(x: torch.Tensor) -> torch.Tensor:
    return (x - 5).square().sum(-1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", [list, tuple, np.array, np.float32, torch.tensor, lambda x: np.array(x[::-1])[::-1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_in_every_form_are_the_same(kind, dtype: torch.dtype) -> None:
    mean, bounds = torch.zeros(3, 2, dtype=dtype), {"lower": kind(LOWER), "upper": kind(UPPER)}
    expected = {"lower": torch.tensor(LOWER), "upper": torch.tensor(UPPER)}
    got = dcem(far_away, mean, 1.0, generator=seeded(), **bounds, **OPTIONS)
    assert torch.equal(got.mean, dcem(far_away, mean, 1.0, generator=seeded(), **expected, **OPTIONS).mean)
    assert torch.equal(got.mean, DCEM(generator=seeded(), **bounds, **OPTIONS)(far_away, mean, 1.0).mean)
    wanted = torch.tensor([UPPER] * 3, dtype=dtype)
    assert torch.equal(got.best, wanted)
    for answer in (unrolled_gd(far_away, mean, **bounds), UnrolledGD(**bounds)(far_away, mean)):
        assert torch.equal(answer.mean, wanted)


def test_bounds_of_each_problem() -> None:
    lower, upper = [[0.0], [1.0], [-3.0]], [[0.5], [2.0], [-2.0]]
    assert_close(cem(far_away, *START, lower=lower, upper=upper).best, torch.tensor(upper).expand(3, 2))
    assert_close(unrolled_gd(far_away, START[0], lower=lower, upper=upper).mean, torch.tensor(upper).expand(3, 2))


def test_bounds_keep_the_precision_of_the_problem() -> None:
    wide = torch.zeros(1, 2, dtype=torch.float64)
    for upper in ([0.1, 0.2], np.array([0.1, 0.2])):
        assert dcem(far_away, wide, 1.0, upper=upper).best.tolist() == [[0.1, 0.2]]


def test_descent_stays_within_its_bounds_from_the_start() -> None:
    solution = unrolled_gd(far_away, START[0] - 9, lower=LOWER, upper=UPPER, lr=0.01, num_steps=3, trace=True)
    assert torch.equal(solution.trace[0].mean, torch.tensor([LOWER] * 3))
    target = torch.full((3, 2), 5.0, requires_grad=True)
    free = unrolled_gd(lambda x: (x - target.unsqueeze(1)).square().sum(-1), START[0], upper=[1.0, 99.0], lr=0.1)
    gradient = torch.autograd.grad(free.mean.sum(), target)[0]
    assert (gradient[:, 0] == 0).all()
    assert (gradient[:, 1] > 0.5).all()


def test_modules_hold_plain_options() -> None:
    solver = DCEM(
        lower=np.array(LOWER), upper=(1, np.float32(0.5)), num_candidates=np.int64(30), momentum=np.float64(0)
    )
    given = {"lower": LOWER, "upper": [1, 0.5], "num_candidates": 30, "momentum": 0.0}
    assert solver.options == {**DEFAULTS, **given}
    assert {type(value) for value in (*solver.options["lower"], solver.options["num_candidates"])} == {float, int}
    descent = UnrolledGD(np.int64(3), np.float64(0.1), np.array(LOWER), tuple(UPPER))
    assert [type(value) for value in (descent.num_steps, descent.lr, descent.lower)] == [int, float, list]
    assert descent.replace(lr=0.2).upper == UPPER


def test_a_solver_clamps_to_its_bounds() -> None:
    points = torch.tensor([[-9.0, -9.0], [9.0, 9.0]])
    assert torch.equal(DCEM(lower=LOWER, upper=UPPER).clamp(points), torch.tensor([LOWER, UPPER]))
    assert torch.equal(DCEM(upper=2).clamp(points), points.clamp(max=2))
    assert torch.equal(DCEM().clamp(points), points)


@pytest.mark.parametrize(
    ("lower", "upper", "got"),
    [
        ([1.0, 1.0], [2.0, -1.0], "1.0 and -1.0"),
        (torch.ones(2), -torch.ones(2), "1.0 and -1.0"),
        (np.ones(2), 0, "1.0 and 0.0"),
        ((0.0, 0.0), torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), "0.0 and 0.0"),
        (0.5, 0.5, "0.5 and 0.5"),
        (math.nan, None, "nan and None"),
        (None, -math.inf, "None and -inf"),
        ([-1.0, math.nan], None, "nan and inf"),
    ],
)
def test_bounds_the_wrong_way_round_are_refused(lower, upper, got: str) -> None:
    def check(call) -> None:
        with pytest.raises(ValueError, match=rf"^lower must be below upper, got {got}\.$"):
            call()

    bounds = {"lower": lower, "upper": upper}
    check(lambda: dcem(far_away, *START, **bounds))
    check(lambda: cem(far_away, *START, **bounds))
    check(lambda: DCEM(**bounds))
    check(lambda: unrolled_gd(far_away, START[0], **bounds))
    check(lambda: UnrolledGD(**bounds))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"lower": [0.0] * 3}, r"lower must broadcast against \[B, D\] = \[3, 2\], got \[3\]"),
        ({"upper": torch.ones(2, 2)}, r"upper must broadcast against \[B, D\] = \[3, 2\], got \[2, 2\]"),
        ({"lower": [0.0] * 3, "upper": [1.0] * 2}, r"lower and upper must fit each other, got \[3\] and \[2\]"),
        ({"lower": "low"}, "lower must be a number, or numbers that broadcast against .*, got low"),
    ],
)
def test_bounds_that_do_not_fit_are_refused(bounds: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        dcem(far_away, *START, **bounds)
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        unrolled_gd(far_away, START[0], **bounds)


COUNTS = {"num_candidates": 30, "num_elites": 5, "num_iterations": 4, "num_kept": 2, "horizon": 2, "grad_iterations": 3}


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64, float, torch.tensor])
def test_counts_in_every_form_are_the_same(kind) -> None:
    given = {name: kind(count) for name, count in COUNTS.items()}
    expected = dcem(far_away, *START, generator=seeded(), **COUNTS).mean
    assert torch.equal(dcem(far_away, *START, generator=seeded(), **given).mean, expected)
    assert torch.equal(DCEM(generator=seeded(), **given)(far_away, *START).mean, expected)
    schedule = dcem(far_away, *START, num_candidates=np.array([12, 10]), num_iterations=kind(2), trace=True)
    assert [i.candidates.shape[1] for i in schedule.trace] == [12, 10]
    assert torch.equal(
        unrolled_gd(far_away, START[0], num_steps=kind(2)).mean, unrolled_gd(far_away, START[0], num_steps=2).mean
    )
    assert torch.equal(lml(START[0], kind(1)), lml(START[0], 1))


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [2.5, math.nan, math.inf, "x"])
def test_a_count_is_a_whole_number(name: str, count) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a whole number, got {count}\.$"):
        DCEM(**{**OPTIONS, name: count})
    with pytest.raises(ValueError, match=rf"^num_steps must be a whole number, got {count}\.$"):
        UnrolledGD(num_steps=count)


@pytest.mark.parametrize("std", [0.5, np.float32(0.5), torch.tensor(0.5), torch.tensor(0.5).double(), [[0.5] * 2] * 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_std_as_a_number_is_that_of_every_dimension(std, dtype: torch.dtype) -> None:
    mean = START[0].to(dtype)
    for solve in (dcem, cem, lambda *args, **options: DCEM(**options)(*args)):
        got = solve(far_away, mean, std, generator=seeded(), trace=True, num_candidates=20)
        wanted = solve(far_away, mean, torch.full_like(mean, 0.5), generator=seeded(), num_candidates=20)
        assert torch.equal(got.mean, wanted.mean)
        assert torch.equal(got.trace[0].std, torch.full_like(mean, 0.5))


def test_a_number_as_std_takes_gradients() -> None:
    std = torch.tensor(0.5, requires_grad=True)
    assert torch.autograd.grad(dcem(far_away, START[0], std, **OPTIONS).mean.sum(), std)[0].abs() > 0


@pytest.mark.parametrize("std", [-0.5, torch.tensor(-0.5), torch.tensor([[1.0, 1.0], [1.0, -0.5], [1.0, 1.0]])])
def test_negative_std_is_refused(std) -> None:
    for solve in (dcem, cem):
        with pytest.raises(ValueError, match=r"^std must be at least 0, got -0\.5\.$"):
            solve(far_away, START[0], std)


@pytest.mark.parametrize("temperature", [-0.5, math.nan, math.inf])
def test_tensors_of_temperatures_are_refused_as_numbers_are(temperature: float) -> None:
    message = rf"^temperature must be positive and finite, got {temperature}\.$"
    for tensor in (torch.tensor(temperature), torch.tensor([[1.0], [temperature], [1.0]])):
        for call in (
            lambda tensor=tensor: dcem(far_away, *START, temperature=tensor),
            lambda tensor=tensor: DCEM(temperature=tensor),
            lambda tensor=tensor: lml(START[0], 1, tensor),
            lambda tensor=tensor: LML(1, tensor),
        ):
            with pytest.raises(ValueError, match=message):
                call()
    with pytest.raises(ValueError, match=message):
        LML(1, temperature)
    with pytest.raises(ValueError, match=r"^temperature must be positive and finite, got 0\.0\.$"):
        DCEM(temperature=torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"^temperature must broadcast against \[3, 1\], got \[3\]\.$"):
        dcem(far_away, *START, temperature=torch.ones(3))


def test_the_layer_checks_its_options_when_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"^k must be at least 1, got 0\.$"):
        LML(0)


@pytest.mark.parametrize("initial_std", [-7.0, 0.0, math.inf, math.nan])
def test_experiments_refuse_an_initial_std_that_is_not_positive(initial_std: float) -> None:
    message = rf"^initial_std must be positive and finite, got {initial_std}\.$"
    with pytest.raises(ValueError, match=message):
        EnergyRegression(DCEM(), EnergyNetwork(hidden_dim=4), initial_std=initial_std)
    with pytest.raises(ValueError, match=message):
        CartpoleEmbedding(ActionDecoder(2, 20, hidden_dim=4), DCEM(), initial_std=initial_std)


SOLVERS = {"DCEM": {"num_candidates": [12, 10], "num_elites": 2, "num_iterations": 2}, "UnrolledGD": {"num_steps": 2}}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("bounds", ["lower: [-1.0, -2.0]\n    upper: [1, 0.5]", "lower: -1.0\n    upper: [1.0, 2.0]"])
def test_bounds_of_a_config(name: str, bounds: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments((DCEM, UnrolledGD), "solver")
    options = "\n".join(f"    {key}: {value}" for key, value in SOLVERS[name].items())
    text = f"solver:\n  class_path: lit_dcem.{name}\n  init_args:\n    {bounds}\n{options}"
    solver = parser.instantiate_classes(parser.parse_string(text)).solver
    assert type(solver).__name__ == name
    best = solver(far_away, START[0], START[1]).best
    assert (best <= torch.tensor([1.0, 2.0])).all()
