"""The errors of gradients that docs/your_own/cost.md names, on the problem of its first block."""

import re

import pytest
import torch
from support.documents import ROOT, Page

from lit_dcem import dcem

PAGE = Page(ROOT / "docs/your_own/cost.md")
ANCHORS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
SEEDS = 10
COLLAPSED = r"off by up to ([\d.]+) \(ten seeds, temperature 0\.1\)"
SOFT = r"off by up to ([\d.]+) after 10 iterations, and by ([\d.]+) after 20"


def residuals(place, distances):
    return ((place.unsqueeze(-2) - ANCHORS.to(place)).norm(dim=-1) - distances).square().sum(-1)


def exact():
    """How the sum of the minimiser moves with the distances, from the optimality conditions."""
    both = torch.tensor([2.0, 1.5, 2.5, 2.5, 2.5]).double()
    second = torch.autograd.functional.hessian(lambda given: residuals(given[:2], given[2:]), both)
    return -torch.linalg.solve(second[:2, :2], second[:2, 2:]).sum(0)


def errors(iterations, temperature, **options):
    """The largest error of a gradient over the seeds, and in how many of them the search has collapsed."""
    found, collapsed = [], 0
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        distances = torch.full((3,), 2.5, requires_grad=True)
        settings = {"std": 2.0, "temperature": temperature, "num_iterations": iterations, **options}
        solution = dcem(lambda x, d=distances: residuals(x, d), mean=torch.zeros(2), **settings)
        solution.mean.sum().backward()
        found.append((distances.grad - exact()).abs().max().item())
        collapsed += bool(solution.has_collapsed)
    return max(found), collapsed


def said(pattern):
    (numbers,) = re.findall(pattern, PAGE.text)
    return [float(number) for number in ([numbers] if isinstance(numbers, str) else numbers)]


def test_too_many_iterations_spoil_the_gradient_as_much_as_is_said_and_are_noticed():
    largest, collapsed = errors(20, 0.1)
    (stated,) = said(COLLAPSED)
    assert collapsed == SEEDS and stated / 4 < largest < 4 * stated  # rounding, as processors do it


@pytest.mark.parametrize(("iterations", "options"), [(20, {"min_std": 1e-3}), (10, {})])
def test_a_least_deviation_or_fewer_iterations_help(iterations, options):
    largest, collapsed = errors(iterations, 0.1, **options)
    assert largest < 1e-3 and collapsed == 0


def test_a_soft_search_does_not_collapse_and_takes_longer():
    found = [errors(iterations, 1.0) for iterations in (10, 20)]
    assert [collapsed for _, collapsed in found] == [0, 0]
    assert [largest for largest, _ in found] == pytest.approx(said(SOFT), rel=0.1)
