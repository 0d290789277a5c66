"""Cases of learning through the embedded planner: a decoder step of phase 2, and a PPO update of phase 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from measure import Case, Work
from peers import dcem_by, detached_bisection
from planet_peers import PlainModel
from planner import ACTIONS, BOUNDS, HORIZON, LATENTS, OBSERVATIONS, latent_planner
from torch import Tensor, nn

from lit_dcem import (
    DCEM,
    ActionDecoder,
    EmbeddingLoss,
    Objective,
    PlanetPhase2,
    PlanetPhase3,
    PolicyGradient,
    ValueHead,
    WorldModel,
)
from lit_dcem.planet.data.transitions import Transitions
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.phases.policy_gradient import Plan
from lit_dcem.planet.phases.ppo import log_density
from lit_dcem.planet.planning.imagination import imagined_returns
from lit_dcem.planet.planning.problem import Rest

STD = 0.5
"""standard deviation of the first candidates, the planner's default"""
THROUGH = "through the search"
WAYS: dict[str, dict[str, Any]] = {
    THROUGH: {},
    "checkpoint": {"checkpoint": True},
    "grad_iterations 1": {"grad_iterations": 1},
}
"""options of the solver for each method of differentiating a search; the paper's comes first"""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a search and of its batch."""

    candidates: int = 100
    elites: int = 10
    iterations: int = 5
    beliefs: int = 16
    """number of beliefs in a decoder step"""
    times: int = 6
    """number of time steps in a PPO update"""
    envs: int = 10
    """number of environments at each time step"""

    @property
    def search(self) -> dict[str, int]:
        """The sizes of a search as options of the solver."""
        return {
            "num_candidates": self.candidates,
            "num_elites": self.elites,
            "num_iterations": self.iterations,
        }


def decoder_case(sizes: Sizes, precisions: list[str]) -> Case:
    """Make the case of a decoder step through the search, against the other methods and plain tensors."""
    works = decoder_works(sizes, precisions)
    what = f"decoder step, {sizes.beliefs} beliefs"
    return Case(what, works.pop(THROUGH), works, "imagination alone", _imagination(sizes, sizes.beliefs, 1))


def decoder_works(sizes: Sizes, precisions: list[str]) -> dict[str, Work]:
    """Make a decoder step for each method. At temperature 0, the loss is that of configs/phase2.yaml."""
    works = {name: decoder_step(sizes, **options) for name, options in WAYS.items()}
    hard = {"loss": EmbeddingLoss(answer=0.0, best=0.5, elites=0.5, num_elites=5), "temperature": 0.0}
    works["temperature 0, best and elites"] = decoder_step(sizes, **hard)
    if "bfloat16" in precisions:
        works["bfloat16"] = decoder_step(sizes, precision="bfloat16")
        works["temperature 0, best and elites, bfloat16"] = decoder_step(sizes, precision="bfloat16", **hard)
    works["plain tensors"] = _plain_decoder_step(sizes)
    return works


def decoder_step(sizes: Sizes, loss: EmbeddingLoss | None = None, precision: str = "float32", **options: Any) -> Work:
    """Make a decoder step: the loss of phase 2 and its gradient for the decoder. Options are passed to the solver."""
    planner = latent_planner(DCEM(**sizes.search, **BOUNDS, **options), precision)
    module = PlanetPhase2(WorldModel(OBSERVATIONS, ACTIONS), planner, loss=loss)
    belief, parameters = _beliefs(sizes.beliefs), list(planner.decoder.parameters())
    return lambda: torch.autograd.grad(module.decoder_learning.loss(belief), parameters)


def ppo_case(sizes: Sizes, precisions: list[str]) -> Case:
    """Make the case of a PPO update through the search, against the other methods and plain tensors."""
    works = ppo_works(sizes, precisions)
    what = f"PPO update, {sizes.times} x {sizes.envs} steps"
    return Case(what, works.pop(THROUGH), works, "imagination alone", _imagination(sizes, sizes.envs, sizes.times))


def ppo_works(sizes: Sizes, precisions: list[str]) -> dict[str, Work]:
    """Make a PPO update for each method. At temperature 0, only the decoder learns, through the answer."""
    works = {name: _ppo_update(sizes, **options) for name, options in WAYS.items()}
    works["temperature 0, decoder alone"] = _ppo_update(sizes, temperature=0.0)
    if "bfloat16" in precisions:
        works["temperature 0, decoder alone, bfloat16"] = _ppo_update(sizes, precision="bfloat16", temperature=0.0)
    works["plain tensors"] = _plain_ppo_update(sizes)
    return works


def _ppo_update(sizes: Sizes, precision: str = "float32", **options: Any) -> Work:
    """Make a PPO update: the policy loss and its gradient for the decoder and, if differentiable, the reward head."""
    planner = latent_planner(DCEM(**sizes.search, **BOUNDS, **options), precision)
    model, learner = WorldModel(OBSERVATIONS, ACTIONS), PolicyGradient(ValueHead(), ACTIONS)
    tuned = ("decoder", "reward") if planner.solver.is_differentiable else ("decoder",)
    PlanetPhase3(model, planner, learner, {name: {} for name in tuned})  # freezes everything that is not tuned

    def plan(belief: Belief, rest: Rest | None) -> Tensor:
        return planner.act(model, belief, 0, rest)

    return _policy_gradient(sizes, learner, plan, _learning(model, planner))


def _policy_gradient(sizes: Sizes, learner: PolicyGradient, plan: Plan, parameters: list[Tensor]) -> Work:
    """Make a policy gradient on a batch whose actions were sampled around the current plan."""
    belief = _beliefs(sizes.times, sizes.envs)
    with torch.no_grad():
        mean = torch.stack([plan(Belief(*time), None)[:, 0] for time in zip(*belief, strict=True)])
        sample = mean + learner.std * torch.randn_like(mean)
        old = log_density(sample, mean, learner.std)
    drawn = {"sample": sample, "mean": mean, "std": learner.std.expand_as(mean), "log_density": old}
    learned = {"returns": torch.zeros_like(old), "advantages": torch.randn_like(old)}
    steps = Transitions(*belief, **drawn, **learned, counts=torch.ones_like(old).bool())
    return lambda: torch.autograd.grad(learner.policy_loss(steps, plan).policy.loss, parameters)


def _imagination(sizes: Sizes, num_beliefs: int, searches: int) -> Work:
    """Make the forward passes of imagination in the searches, without sampling, decoding, weighting or gradients."""
    model, batch = WorldModel(OBSERVATIONS, ACTIONS), (HORIZON, num_beliefs, sizes.candidates)
    belief = Belief(*(part.unsqueeze(1) for part in _beliefs(num_beliefs)))
    actions = 2 * torch.rand(*batch, ACTIONS) - 1
    noise = model.rssm.draw_noise(actions)

    @torch.no_grad()
    def work() -> None:
        for _ in range(searches * sizes.iterations):
            imagined_returns(model, belief, actions, noise)

    return work


def _plain_decoder_step(sizes: Sizes) -> Work:
    plain, decoder = _plain()
    belief, parameters = _beliefs(sizes.beliefs), list(decoder.parameters())

    def step() -> object:
        objective = _plain_objective(plain, decoder, belief)
        answer = _plain_search(sizes, objective, sizes.beliefs)
        return torch.autograd.grad(objective(answer.unsqueeze(1)).mean(), parameters)

    return step


def _plain_ppo_update(sizes: Sizes) -> Work:
    plain, decoder = _plain()
    plain.reward.requires_grad_()

    def plan(belief: Belief, _: Rest | None) -> Tensor:
        return decoder(_plain_search(sizes, _plain_objective(plain, decoder, belief), sizes.envs))

    return _policy_gradient(sizes, PolicyGradient(ValueHead(), ACTIONS), plan, _learning(plain, decoder))


def _plain() -> tuple[PlainModel, ActionDecoder]:
    return PlainModel(OBSERVATIONS, ACTIONS).requires_grad_(False), ActionDecoder(LATENTS, HORIZON, ACTIONS)


def _plain_search(sizes: Sizes, objective: Objective, problems: int) -> Tensor:
    mean = torch.zeros(problems, LATENTS)
    return dcem_by(detached_bisection, objective, mean, torch.full_like(mean, STD), **sizes.search)


def _plain_objective(plain: PlainModel, decoder: ActionDecoder, belief: Belief) -> Objective:
    """Make the objective: minus the returns of points ``[B, N, D]``, from beliefs ``[B, size]``."""

    def objective(points: Tensor) -> Tensor:
        deter, stoch = (part.repeat_interleave(points.shape[1], 0) for part in belief)
        return -plain.returns(deter, stoch, decoder(points).flatten(0, 1)).view(points.shape[:2])

    return objective


def _beliefs(*batch: int) -> Belief:
    """Draw beliefs: the deterministic part within the range of a GRU, the stochastic part standard normal."""
    return Belief(2 * torch.rand(*batch, 200) - 1, torch.randn(*batch, 30))


def _learning(*modules: nn.Module) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
