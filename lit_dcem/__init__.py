"""lit-dcem: the differentiable cross-entropy method in PyTorch Lightning.

    from lit_dcem import dcem
    solution = dcem(objective, mean, std)    # solution.mean is differentiable in whatever the objective depends on

Names load on first use, so that ``lit-dcem --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_dcem.cartpole.figures.plots import CartpolePlots
    from lit_dcem.cartpole.module import CartpoleEmbedding
    from lit_dcem.cartpole.pca import PCAPlanner
    from lit_dcem.cartpole.planners import FullSpacePlanner
    from lit_dcem.cartpole.states import CartpoleStates
    from lit_dcem.embedding.decoder import ActionDecoder
    from lit_dcem.embedding.loss import EmbeddingLoss
    from lit_dcem.envs.policy import Policy
    from lit_dcem.planet.data.joint import JointRollouts
    from lit_dcem.planet.data.on_policy import OnPolicyRollouts
    from lit_dcem.planet.data.rollouts import Rollouts
    from lit_dcem.planet.figures.plots import PlanetPlots
    from lit_dcem.planet.model.rssm import RSSM
    from lit_dcem.planet.model.value import ValueEnsemble, ValueHead
    from lit_dcem.planet.model.world_model import WorldModel
    from lit_dcem.planet.phases.joint import PlanetJoint
    from lit_dcem.planet.phases.phase1 import PlanetPhase1
    from lit_dcem.planet.phases.phase2 import PlanetPhase2
    from lit_dcem.planet.phases.phase3 import PlanetPhase3
    from lit_dcem.planet.phases.policy_gradient import PolicyGradient
    from lit_dcem.planet.phases.value_learning import ValueLearning
    from lit_dcem.planet.planning.cem import CEMPlanner
    from lit_dcem.planet.planning.latent import LatentPlanner
    from lit_dcem.planet.planning.policy import ModelPolicy
    from lit_dcem.regression.data import RegressionData
    from lit_dcem.regression.energy import EnergyNetwork
    from lit_dcem.regression.module import EnergyRegression
    from lit_dcem.regression.plots import RegressionPlots
    from lit_dcem.solvers.cem import DCEM, cem, dcem
    from lit_dcem.solvers.gradient_descent import UnrolledGD, unrolled_gd
    from lit_dcem.solvers.lml import LML, lml
    from lit_dcem.solvers.search import Search
    from lit_dcem.solvers.solver import Solver
    from lit_dcem.solvers.types import Iteration, Objective, Solution

_HOMES = {
    "ActionDecoder": "embedding.decoder",
    "CEMPlanner": "planet.planning.cem",
    "CartpoleEmbedding": "cartpole.module",
    "CartpolePlots": "cartpole.figures.plots",
    "CartpoleStates": "cartpole.states",
    "DCEM": "solvers.cem",
    "EmbeddingLoss": "embedding.loss",
    "EnergyNetwork": "regression.energy",
    "EnergyRegression": "regression.module",
    "FullSpacePlanner": "cartpole.planners",
    "Iteration": "solvers.types",
    "JointRollouts": "planet.data.joint",
    "LML": "solvers.lml",
    "LatentPlanner": "planet.planning.latent",
    "ModelPolicy": "planet.planning.policy",
    "Objective": "solvers.types",
    "OnPolicyRollouts": "planet.data.on_policy",
    "PCAPlanner": "cartpole.pca",
    "PlanetJoint": "planet.phases.joint",
    "PlanetPhase1": "planet.phases.phase1",
    "PlanetPhase2": "planet.phases.phase2",
    "PlanetPhase3": "planet.phases.phase3",
    "PlanetPlots": "planet.figures.plots",
    "Policy": "envs.policy",
    "PolicyGradient": "planet.phases.policy_gradient",
    "RSSM": "planet.model.rssm",
    "RegressionData": "regression.data",
    "RegressionPlots": "regression.plots",
    "Rollouts": "planet.data.rollouts",
    "Search": "solvers.search",
    "Solution": "solvers.types",
    "Solver": "solvers.solver",
    "UnrolledGD": "solvers.gradient_descent",
    "ValueEnsemble": "planet.model.value",
    "ValueHead": "planet.model.value",
    "ValueLearning": "planet.phases.value_learning",
    "WorldModel": "planet.model.world_model",
    "cem": "solvers.cem",
    "dcem": "solvers.cem",
    "lml": "solvers.lml",
    "unrolled_gd": "solvers.gradient_descent",
}

__all__ = [
    "DCEM",
    "LML",
    "RSSM",
    "ActionDecoder",
    "CEMPlanner",
    "CartpoleEmbedding",
    "CartpolePlots",
    "CartpoleStates",
    "EmbeddingLoss",
    "EnergyNetwork",
    "EnergyRegression",
    "FullSpacePlanner",
    "Iteration",
    "JointRollouts",
    "LatentPlanner",
    "ModelPolicy",
    "Objective",
    "OnPolicyRollouts",
    "PCAPlanner",
    "PlanetJoint",
    "PlanetPhase1",
    "PlanetPhase2",
    "PlanetPhase3",
    "PlanetPlots",
    "Policy",
    "PolicyGradient",
    "RegressionData",
    "RegressionPlots",
    "Rollouts",
    "Search",
    "Solution",
    "Solver",
    "UnrolledGD",
    "ValueEnsemble",
    "ValueHead",
    "ValueLearning",
    "WorldModel",
    "cem",
    "dcem",
    "lml",
    "unrolled_gd",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("lit-dcem")
        except PackageNotFoundError:  # a checkout that is not installed
            return "0+unknown"
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
