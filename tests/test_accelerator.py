"""Nothing that runs in a loop waits for an accelerator, or mixes devices: seen without one (`support.accelerator`)."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from support.accelerator import ACCELERATOR, WaitsError, watched
from torch import nn

from lit_dcem import (
    DCEM,
    ActionDecoder,
    CartpoleEmbedding,
    CEMPlanner,
    EmbeddingLoss,
    EnergyNetwork,
    EnergyRegression,
    LatentPlanner,
    Minimizer,
    Planner,
    PolicyGradient,
    UnrolledGD,
    ValueEnsemble,
    ValueHead,
    ValueLearning,
    WorldModel,
    cma,
    icem,
    lml,
    mppi,
)
from lit_dcem.cartpole.dynamics import Cartpole
from lit_dcem.planet.data.episode import Sequences
from lit_dcem.planet.data.transitions import Transitions
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.phases.decoder_learning import DecoderLearning
from lit_dcem.planet.phases.model_learning import ModelLearning
from lit_dcem.planet.planning.imagined import ImaginedModel
from lit_dcem.planet.planning.plan_policy import PlanPolicy
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.distributions import Categorical, Gaussian
from lit_dcem.solvers.full_gaussian import FullGaussian
from lit_dcem.solvers.noise import Coloured, Spline
from lit_dcem.solvers.weights import LogRank, Softmax, SoftTopK

EIGH = "aten::_linalg_eigh"
"""CMA needs the roots of its covariance, and torch's eigh asks whether it has converged: there is no other"""
SMALL = {"num_candidates": 8, "num_iterations": 2}
BOUNDS = {"lower": -1.0, "upper": 1.0}
SEARCH = {**SMALL, **BOUNDS, "num_elites": 3}
DETER, STOCH, OBSERVATION, ACTION, HORIZON = 8, 3, 5, 2, 3


def there(*shape):
    return torch.randn(shape, device=ACCELERATOR)


def leaf(*shape):
    return there(*shape).requires_grad_()


def distance(theta):
    """An objective that depends on theta ``[B, D]``."""
    return lambda points: (points - theta.unsqueeze(1)).square().sum(-1)


def learn(loss, *modules):
    """The rest of an update."""
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


WAITING = {
    "reads": lambda x: float(x.sum()),
    "reads all": lambda x: x.tolist(),
    "asks": lambda x: bool((x > 0).any()),
    "compares": lambda x: torch.equal(x, x),
    "selects": lambda x: x[x > 0],
    "decomposes": lambda x: torch.linalg.eigh(x.T @ x),
    "goes to NumPy": lambda x: x.detach().numpy(),
    "adds the host's numbers": lambda x: x + torch.ones(4),
    "indexes by the host's numbers": lambda x: x[torch.tensor([0, 2])],
    "brings": lambda x: x.cpu(),
    "copies": lambda x: torch.ones(4).to(x),
    "copies into": lambda x: torch.zeros_like(x).copy_(torch.ones(4)),
    "copies a number": lambda x: torch.tensor(1.0, device=x.device),
    "copies numbers": lambda x: x.new_tensor([1.0, 2.0]),
}


@pytest.mark.parametrize("name", WAITING)
def test_the_stand_in_finds_what_waits(name):
    with pytest.raises((WaitsError, RuntimeError, TypeError)), watched():
        WAITING[name](there(3, 4))


@pytest.mark.parametrize("temperature", ["number", "tensor"])
@pytest.mark.parametrize("k", [2, 6], ids=["some", "all"])
def test_lml(k, temperature):
    scores, temperature = leaf(3, 6), 0.5 if temperature == "number" else leaf()
    with watched():
        (gradient,) = torch.autograd.grad(lml(scores, k, temperature).square().sum(), scores, create_graph=True)
        gradient.sum().backward()


def soft(**options):
    return partial(Minimizer, **{**SMALL, "weighting": SoftTopK(3), **options})


SOLVERS = {
    "DCEM": partial(DCEM, **SEARCH),
    "DCEM, momentum, coloured": partial(DCEM, **SEARCH, momentum=0.1, min_std=0.1, noise_exponent=1.0, horizon=4),
    "DCEM, kept, traced": partial(DCEM, **SEARCH, num_kept=2, trace=True, grad_iterations=2),
    "DCEM, checkpointed": partial(DCEM, **SEARCH, checkpoint=True, common_noise=True),
    "DCEM, bounds in tensors": lambda: DCEM(**{**SEARCH, "lower": -there(4), "upper": there(4)}),
    "DCEM, temperature in a tensor": lambda: DCEM(**SEARCH, temperature=leaf()),
    "CEM": partial(DCEM, **SEARCH, temperature=0.0),
    "MPPI": partial(mppi, num_candidates=8),
    "MPPI, temperature in a tensor": lambda: mppi(leaf(), num_candidates=8),
    "iCEM": partial(icem, 8, 3, 2, horizon=4, noise_exponent=1.0),
    "CMA": partial(cma, 4, 16),
    "CMA, soft": soft(distribution=CMA(restart_below=0.1)),
    "full Gaussian": soft(distribution=FullGaussian(momentum=0.1)),
    "fixed std": soft(distribution=Gaussian(fixed_std=True)),
    "choices": soft(distribution=Categorical(2, momentum=0.1, min_probability=0.1, temperature=1.0)),
    "ranks": soft(weighting=LogRank(3)),
    "softmax": soft(weighting=Softmax(), tolerance=1e-3, maximize=True),
    "pink": soft(noise=Coloured(1.0, 4)),
    "cubic splines": soft(noise=Spline(3, 4)),
    "blocks": soft(noise=Spline(2, 4, "constant")),
    "gradient descent": partial(UnrolledGD, num_steps=2, **BOUNDS),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name):
    solver, theta, start = SOLVERS[name](), leaf(3, 4), (there(3, 4), there(3, 4))
    with watched(*[EIGH] if "CMA" in name else []):
        solution = solver(distance(theta), *start)
        sum(each.sum() for each in (solution.mean, solution.std, solution.value, solution.best_value)).backward()


def test_searches_that_begin_with_numbers():
    with watched():
        DCEM(**SEARCH, warm_start=there(3, 2, 4))(distance(leaf(3, 4)), there(3, 4), 1.0).mean.sum().backward()


PLANNERS = {
    "keeps plans": ("DCEM", {"lower": -100.0, "upper": 100.0, "keep_plans": True}),
    "knots, proposals": ("CEM", {"knots": 2, "proposals": lambda state: there(2, 3, HORIZON, 1)}),
    "samples, value": ("DCEM", {"num_samples": 2, "risk": 0.5, "value": lambda state: state[..., 0], "answer": "best"}),
    "gradient descent": ("gradient descent", {}),
    "bounds of each knot": ("CEM", {"lower": [-1.0], "std": torch.arange(1.0, 1.0 + HORIZON).unsqueeze(1)}),
}


@pytest.mark.parametrize("name", PLANNERS)
def test_planners(name):
    solver, options = PLANNERS[name]
    planner = Planner(Cartpole(), SOLVERS[solver](), HORIZON, 1, **options).to(ACCELERATOR)
    state = leaf(2, 5)
    with watched():
        plan = planner(state, planner(state).memory)
        if planner.solver.is_differentiable:
            plan.actions.sum().backward()


def model(**options):
    rssm = {"deter_dim": DETER, "stoch_dim": STOCH}
    return WorldModel(OBSERVATION, ACTION, 8, 1, rssm, **options).to(ACCELERATOR)


def belief(*batch):
    return Belief(there(*batch, DETER), there(*batch, STOCH))


def decoder(**options):
    return ActionDecoder(3, HORIZON, ACTION, 8, 1, **options)


def value():
    return ValueEnsemble(DETER, STOCH, 8, 1)


MODEL_PLANNERS = {
    "CEM": lambda **options: CEMPlanner(DCEM(**SEARCH, temperature=0.0), HORIZON, **options),
    "DCEM": lambda **options: CEMPlanner(DCEM(**SEARCH, num_kept=1), HORIZON, value=value(), **options),
    "latent": lambda **options: LatentPlanner(
        decoder(condition_dim=DETER + STOCH, blends_rest=True), DCEM(**SEARCH), **options
    ),
}


@pytest.mark.parametrize("name", MODEL_PLANNERS)
def test_planners_in_a_world_model(name):
    planner, predicts = (
        MODEL_PLANNERS[name](warm_start=True, keep_plans=True).to(ACCELERATOR),
        model(termination_weight=1.0),
    )
    policy, first = ModelPolicy(predicts, planner), torch.zeros(2, dtype=torch.bool, device=ACCELERATOR)
    seen = there(2, OBSERVATION), there(2, ACTION), first
    with watched():
        state = None
        for _ in range(2):
            _, state = policy(*seen, state)


@pytest.fixture
def seedless(monkeypatch):
    """Our stand-in for an accelerator has neither a generator of its own nor autocast."""

    class Generator:
        def __init__(self, device):
            pass

        def manual_seed(self, seed):
            return None

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())


def sequences(*batch):
    marks = torch.zeros(batch, device=ACCELERATOR)
    seen = there(*batch, OBSERVATION), there(*batch, ACTION), there(*batch)
    return Sequences(*seen, marks, marks.bool(), marks.long())


def test_update_of_a_world_model_and_its_value():
    predicts, planner = model(termination_weight=1.0, kl_balance=0.8), MODEL_PLANNERS["DCEM"]().to(ACCELERATOR)
    learns_value, batch = ValueLearning(imagined_steps=2, num_windows=4), sequences(6, 2)
    learning = ModelLearning(predicts, planner, True, learns_value)
    with watched():
        predicts.scale.fit(batch.observations)
        learns_value.follow(planner.value)
        likelihood, _ = learning.likelihood(batch)
        loss, _ = learning.value_loss(batch, likelihood)
        learn(likelihood.total + loss, predicts, planner.value)


@pytest.mark.parametrize("solver", ["DCEM", "CEM"])
def test_update_of_a_decoder(solver):
    predicts, planner = model(), MODEL_PLANNERS["latent"]().to(ACCELERATOR)
    loss = EmbeddingLoss(best=1.0, elites=1.0, num_elites=2, iterations=2, discount=0.9)
    learning = DecoderLearning(predicts, planner, SOLVERS[solver](), loss, 3, 0.1, 1.0, {})
    with watched():
        total, _ = learning.added_to(there(), learning.drawn(belief(4, 2)))
        learn(total, planner.decoder)


def transitions(times, envs):
    steps = belief(times, envs), there(times, envs, ACTION), there(times, envs, ACTION), there(times, envs, ACTION)
    (deter, stoch), *actions = steps
    counts = torch.ones(times, envs, dtype=torch.bool, device=ACCELERATOR)
    rest = there(times, envs, HORIZON, ACTION)
    age = torch.ones(times, envs, dtype=torch.long, device=ACCELERATOR)
    kept = {"origin_deter": deter, "origin_stoch": stoch, "age": age}
    return Transitions(deter, stoch, *actions, *(there(times, envs) for _ in range(3)), counts, rest, counts, **kept)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.usefixtures("seedless")
def test_update_of_ppo(frozen):
    """Phase 3 also asks, once an update and before its searches, whether the policy has stopped learning."""
    predicts, planner = model(), MODEL_PLANNERS["latent"](keep_plans=True).to(ACCELERATOR)
    learner = PolicyGradient(ValueHead(DETER, STOCH, 8, 1), ACTION).to(ACCELERATOR)
    policy, steps = ModelPolicy(predicts, planner), transitions(1, 3)
    plan = PlanPolicy(policy, learner.value, lambda: learner.std, lambda: 0, frozen).new_plan
    with watched():
        policy, values = learner.policy_loss(steps, plan), learner.value_loss(steps)
        learn(policy.policy.loss + values, planner.decoder, learner)


def test_planner_in_an_imagined_model():
    """A solver holds the bounds of each dimension as plain numbers, which a search copies once."""
    bounds = {"lower": [-1.0, -2.0], "upper": [1.0, 2.0]}
    planner = Planner(ImaginedModel(model(), sample=True), DCEM(**SEARCH), HORIZON, ACTION, **bounds).to(ACCELERATOR)
    with watched("torch.tensor"):
        planner(belief(2)).actions.sum().backward()


@pytest.mark.parametrize("solver", ["DCEM", "gradient descent"])
def test_update_of_a_regression(solver):
    module = EnergyRegression(SOLVERS[solver](), EnergyNetwork(hidden_dim=8), loss_iterations=2).to(ACCELERATOR)
    with watched():
        learn(module.loss(there(3, 1), there(3, 1)), module)


@pytest.mark.parametrize("solver", ["DCEM", "CEM"])
def test_update_of_a_cartpole(solver):
    maps = ActionDecoder(4, HORIZON, 1, 8, 1, lower=-100.0, upper=100.0, condition_dim=5)
    module = CartpoleEmbedding(maps, SOLVERS[solver](), loss=EmbeddingLoss(elites=1.0)).to(ACCELERATOR)
    with watched():
        learn(module.loss(there(3, 5)), module.decoder)
