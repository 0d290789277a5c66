"""Cases of the solver benchmark: work to time, and measurements of accuracy and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from measure import Case, Work, peak_bytes
from other_packages import soft_top_ks
from peers import HAS_EVOTORCH, PROJECTIONS, Objective, Projection, cem_by_evotorch, dcem_by, detached_bisection
from torch import Tensor, nn

from lit_dcem import cem, dcem, lml

LML_SHAPES = [((1, 100), 10), ((100, 100), 10), ((2500, 100), 10), ((1, 1000), 100), ((10, 10000), 1000)]
NUM_PROBLEMS, NUM_CANDIDATES, NUM_ITERATIONS = 100, 100, 10
Solve = Callable[[Objective, Tensor, Tensor], Tensor]


def lml_cases() -> Iterator[Case]:
    """Make cases of the projection, forward + backward, on standard normal scores, like standardised values."""
    for shape, k in LML_SHAPES:
        scores, cotangent = _scores_and_cotangent(shape)
        projections = {**PROJECTIONS, **soft_top_ks(shape)}
        peers = {name: partial(_pull_back, project, scores, k, cotangent) for name, project in projections.items()}
        ours = partial(_pull_back, lml, scores, k, cotangent)
        yield Case(f"lml {shape}, k {k}", ours, peers, "one sigmoid pass", partial(torch.sigmoid, scores.detach()))


def lml_accuracy() -> Iterator[dict[str, object]]:
    """Measure worst errors of the weights, of their sum over k and of the gradient, against float64 bisection."""
    for shape, k in LML_SHAPES:
        scores, cotangent = _scores_and_cotangent(shape)
        exact = partial(detached_bisection, steps=60)
        truth = _pull_back(exact, scores.detach().double().requires_grad_(), k, cotangent.double())
        for name, project in {"ours": lml, **PROJECTIONS}.items():
            weights, gradient = (tensor.double() for tensor in _pull_back(project, scores, k, cotangent))
            yield {
                "what": f"lml {shape}, k {k}",
                "method": name,
                "weight_error": (weights - truth[0]).abs().max().item(),
                "sum_error_over_k": (weights.sum(-1) - k).abs().max().item() / k,
                "gradient_error": (gradient - truth[1]).abs().max().item(),
            }


def dcem_cases() -> Iterator[Case]:
    """Make cases of 100 one-dimensional problems on one network, with and without the gradient of its parameters."""
    peers = {name: partial(dcem_by, project) for name, project in PROJECTIONS.items()}
    yield _solver_case("dcem forward + backward", True, _our_dcem, peers)
    yield _solver_case("dcem forward", False, _our_dcem, peers)
    if HAS_EVOTORCH:
        yield _solver_case("cem forward", False, _our_cem, {"evotorch cem": cem_by_evotorch})


def dcem_memory() -> Iterator[dict[str, object]]:
    """Measure peak memory of forward + backward on the same problems as iterations grow, plain and checkpointed."""
    net = _network(2)
    for checkpoint in (False, True):
        peaks = {}
        for steps in (5, 10, 20):
            solve = partial(_our_dcem, num_iterations=steps, checkpoint=checkpoint)
            peaks[steps] = peak_bytes(partial(_solve, solve, net, True)) / 2**20
        yield {"checkpoint": checkpoint, "peak_mib": peaks, "peak_20_over_5": peaks[20] / peaks[5]}


def update_cases(compiled: bool) -> Iterator[Case]:
    """Make cases of one regression update with the paper's settings: one point, gradients clipped at 1, Adam."""
    ours = _update(_our_dcem)
    peers = {name: _update(partial(dcem_by, project)) for name, project in PROJECTIONS.items()}
    floor = partial(_network_alone, _network(3), 1, True, True)
    floor_name = "11 network passes, 10 of them differentiated"
    yield Case("regression update", ours, peers, floor_name, floor)
    if compiled:
        fast = _update(_our_dcem, compiled=True)
        yield Case("regression update, compiled", fast, {"ours, eager": ours, **peers}, floor_name, floor)


def _solver_case(what: str, with_grad: bool, ours: Solve, peers: Mapping[str, Solve]) -> Case:
    net = _network(2)
    works = {name: partial(_solve, peer, net, with_grad) for name, peer in peers.items()}
    floor = partial(_network_alone, net, NUM_PROBLEMS, with_grad, False)
    floor_name = "10 network passes, differentiated" if with_grad else "10 network passes"
    return Case(what, partial(_solve, ours, net, with_grad), works, floor_name, floor)


def _solve(solve: Solve, net: nn.Module, with_grad: bool) -> object:
    """Minimise the energy for each x of a grid; the loss is the sum of the squared answers."""
    objective = _energy(net, torch.linspace(0, 6, NUM_PROBLEMS).unsqueeze(1))
    with torch.set_grad_enabled(with_grad):
        answer = solve(objective, torch.zeros(NUM_PROBLEMS, 1), torch.ones(NUM_PROBLEMS, 1))
    return torch.autograd.grad(answer.square().sum(), list(net.parameters())) if with_grad else answer


def _network_alone(net: nn.Module, num_problems: int, with_grad: bool, with_answer: bool) -> object:
    """Run only the network passes of a solve, including the one on the answer if ``with_answer``."""
    points = torch.zeros(num_problems, NUM_CANDIDATES, 2, requires_grad=with_grad)
    with torch.set_grad_enabled(with_grad):
        values = torch.stack([net(points) for _ in range(NUM_ITERATIONS)])
        last = net(points[:, :1]) if with_answer else None
    return torch.autograd.grad(values.sum(), [points, *net.parameters()]) if with_grad else values, last


def _update(solve: Solve, compiled: bool = False) -> Work:
    net = _network(3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = torch.full((1, 1), 2.0), torch.full((1, 1), 1.8)
    mean, std = torch.zeros(1, 1), torch.full((1, 1), 7.0)

    def loss() -> Tensor:
        return (solve(_energy(net, x), mean, std) - y).square().mean()

    compute_loss = torch.compile(loss, fullgraph=True) if compiled else loss

    def update() -> None:
        optimizer.zero_grad()
        compute_loss().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return update


def _our_dcem(objective: Objective, mean: Tensor, std: Tensor, **options: Any) -> Tensor:
    return dcem(objective, mean, std, **options).mean


def _our_cem(objective: Objective, mean: Tensor, std: Tensor) -> Tensor:
    return cem(objective, mean, std).mean


def _network(num_hidden: int) -> nn.Sequential:
    torch.manual_seed(0)
    hidden = [layer for _ in range(num_hidden - 1) for layer in (nn.Linear(128, 128), nn.Softplus())]
    return nn.Sequential(nn.Linear(2, 128), nn.Softplus(), *hidden, nn.Linear(128, 1))


def _energy(net: nn.Module, x: Tensor) -> Objective:
    """Make ``E(x, y)`` an objective of y: ``x [B, 1]``, candidates ``[B, N, 1]``, values ``[B, N]``."""

    def objective(candidates: Tensor) -> Tensor:
        return net(torch.cat([x.unsqueeze(1).expand_as(candidates), candidates], -1)).squeeze(-1)

    return objective


def _scores_and_cotangent(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(shape, requires_grad=True), torch.randn(shape)


def _pull_back(project: Projection, scores: Tensor, k: int, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights, and the gradient of the scores for a cotangent of the weights."""
    weights = project(scores, k)
    (gradient,) = torch.autograd.grad(weights, scores, cotangent)
    return weights.detach(), gradient
