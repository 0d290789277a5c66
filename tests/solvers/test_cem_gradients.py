"""Gradients through the sampling loop: finite differences, checkpointing, truncation, degenerate inputs, memory."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from lit_dcem import Objective, Solution, cem, dcem

INPUTS = {
    "target": torch.tensor([[0.5, -1.0], [2.0, 0.3]]),
    "mean": torch.tensor([[0.1, 0.2], [-0.3, 0.0]]),
    "std": torch.tensor([[1.0, 0.7], [0.9, 1.2]]),
    "temperature": torch.tensor(0.7),
}
OPTIONS = [
    {},
    {"standardize": False},
    {"lower": -0.8, "upper": torch.tensor([0.3, 0.6])},
    {"num_kept": 2, "momentum": 0.2, "min_std": 0.3, "num_candidates": [12, 10, 8]},
    {"noise_exponent": 1.5, "horizon": 2, "warm_start": torch.tensor([[[0.4, -0.9]], [[1.0, 0.2]]]).double()},
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs() -> list[Tensor]:
    return [tensor.double().requires_grad_() for tensor in INPUTS.values()]


def wavy(target: Tensor) -> Objective:
    """A bowl with ripples, so that derivatives of all orders are there."""
    return lambda x: ((x - target.unsqueeze(1)).square() + (3 * x).sin() * target.unsqueeze(1)).sum(-1)


def solve(target: Tensor, mean: Tensor, std: Tensor, temperature: float | Tensor, **options) -> Solution:
    options = {"num_candidates": 12, "num_elites": 4, "num_iterations": 3, "generator": seeded(), **options}
    return dcem(wavy(target), mean, std, temperature=temperature, **options)


def gradients(**options) -> tuple[Tensor, ...]:
    """Of a function of all that the solution holds, in all inputs."""
    leaves = inputs()
    solution = solve(*leaves, **options)
    outputs = torch.cat([solution.mean, solution.std, solution.best], 1).sin().sum() + solution.value.sum()
    return torch.autograd.grad(outputs, leaves)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("field", ["mean", "std", "value", "best"])
def test_gradient_matches_finite_differences(options: dict, field: str) -> None:
    assert gradcheck(lambda *leaves: getattr(solve(*leaves, **options), field), inputs(), rtol=1e-5, atol=1e-8)


def test_a_temperature_per_problem_matches_finite_differences() -> None:
    *leaves, _ = inputs()
    temperature = torch.tensor([[0.5], [2.0]], dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda *args: solve(*args).mean, (*leaves, temperature), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_checkpointing_changes_no_gradient(options: dict) -> None:
    for plain, recomputed in zip(gradients(**options), gradients(**options, checkpoint=True), strict=True):
        assert plain.abs().max() > 1e-3
        assert_close(recomputed, plain, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_truncated_gradient_is_that_of_the_last_iterations(m: int, checkpoint: bool) -> None:
    leaves, generator = inputs(), seeded()
    target, _, _, temperature = leaves
    with torch.no_grad():
        half = solve(*leaves, num_iterations=6 - m, generator=generator)
    expected = solve(target, half.mean, half.std, temperature, num_iterations=m, generator=generator)
    truncated = solve(*leaves, num_iterations=6, grad_iterations=m, checkpoint=checkpoint)
    assert torch.equal(truncated.mean, expected.mean)
    wanted = torch.autograd.grad(expected.mean.sum(), (target, temperature))
    got = torch.autograd.grad(truncated.mean.sum(), leaves, allow_unused=True)
    assert got[1:3] == (None, None)
    assert_close((got[0], got[3]), wanted, rtol=1e-14, atol=1e-15)
    full = torch.autograd.grad(solve(*leaves, num_iterations=6).mean.sum(), target)[0]
    assert not torch.allclose(got[0], full, rtol=1e-3)


def test_all_iterations_truncated_to_all_is_the_plain_gradient() -> None:
    for plain, all_of_it in zip(gradients(), gradients(grad_iterations=3), strict=True):
        assert torch.equal(plain, all_of_it)


def test_temperature_zero_lets_no_gradient_through_the_search() -> None:
    target, mean, std, _ = inputs()
    solution = cem(wavy(target), mean.detach(), std.detach(), num_candidates=12, num_elites=4, generator=seeded())
    assert (solution.mean.requires_grad, solution.std.requires_grad) == (False, False)
    direct = wavy(target)(solution.mean.unsqueeze(1)).sum()
    got, wanted = torch.autograd.grad(solution.value.sum(), target)[0], torch.autograd.grad(direct, target)[0]
    assert torch.equal(got, wanted)


def test_no_gradients_no_graph() -> None:
    with torch.no_grad():
        quiet = solve(*inputs(), checkpoint=True)
    assert not quiet.mean.requires_grad
    assert torch.equal(quiet.mean, solve(*inputs()).mean)
    with torch.inference_mode():
        assert torch.equal(quiet.mean, solve(*inputs()).mean)


def test_gradients_of_problems_do_not_touch_each_other() -> None:
    target, mean, std, temperature = inputs()
    solution = solve(target, mean, std, temperature, num_kept=2)
    for gradient in torch.autograd.grad(solution.mean[1].sum(), (target, mean, std)):
        assert torch.equal(gradient[0], torch.zeros_like(gradient[0]))
        assert gradient[1].abs().min() > 0


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["outside", "zero spread", "one candidate", "constant", "broken", "few finite"])
def test_gradients_are_finite(case: str, dtype: torch.dtype, standardize: bool, temperature: float) -> None:
    target, mean, std, temp = (tensor.to(dtype).requires_grad_() for tensor in INPUTS.values())
    options = {"lower": -0.2, "upper": 0.1} if case == "outside" else {}
    if case == "one candidate":
        options = {"num_candidates": 1, "num_elites": 1}

    def objective(x: Tensor) -> Tensor:
        values = wavy(target)(x)
        limit = {"broken": 0.5, "few finite": -1.0}.get(case, math.inf)
        broken = (x[..., 0] > limit) & (torch.arange(x.shape[1]) > 0)
        return torch.where(broken, math.nan, values * 0 if case == "constant" else values)

    spread = std * 0 if case == "zero spread" else std
    options = {"num_candidates": 12, "num_elites": 4, "num_iterations": 5, "standardize": standardize, **options}
    solution = dcem(objective, mean, spread, temperature=temp * temperature, generator=seeded(), **options)
    loss = solution.mean.sum() + solution.std.sum() + solution.value.sum()
    for gradient in torch.autograd.grad(loss, (target, mean, std, temp)):
        assert gradient.isfinite().all()


def test_many_steps_of_descent_through_the_search_fit_a_target() -> None:
    """What the layer is for: move the minimum of an objective to where it is wanted."""
    wanted, target = torch.tensor([[0.4, -0.6]]), torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([target], lr=0.1)
    for step in range(100):
        options = {"num_candidates": 50, "num_elites": 5, "generator": seeded(step)}
        solution = dcem(lambda x: (x - target.tanh().unsqueeze(1)).abs().sum(-1), wanted * 0, wanted * 0 + 1, **options)
        optimizer.zero_grad()
        (solution.mean - wanted).square().sum().backward()
        optimizer.step()
    assert_close(target.detach().tanh(), wanted, rtol=0, atol=0.05)


def peak_bytes(num_iterations: int, checkpoint: bool) -> int:
    """Most memory held at a time in forward and backward, from the profiler's record of the allocator."""
    energy = nn.Sequential(nn.Linear(2, 128), nn.Softplus(), nn.Linear(128, 128), nn.Softplus(), nn.Linear(128, 1))
    start, options = torch.zeros(10, 2), {"num_iterations": num_iterations, "checkpoint": checkpoint}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        solution = dcem(lambda x: energy(x).squeeze(-1), start, start + 1, generator=seeded(), **options)
        solution.mean.sum().backward()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(change for _, change in changes))


def test_memory_hardly_grows_with_checkpointed_iterations() -> None:
    assert peak_bytes(20, checkpoint=True) <= 1.3 * peak_bytes(5, checkpoint=True)
    assert peak_bytes(20, checkpoint=False) >= 3 * peak_bytes(5, checkpoint=False)
