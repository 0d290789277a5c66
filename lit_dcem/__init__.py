"""lit-dcem: the differentiable cross-entropy method in PyTorch Lightning.

    from lit_dcem import dcem
    solution = dcem(objective, mean, std)    # solution.mean is differentiable in whatever the objective depends on

Names load on first use, so that ``lit-dcem --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_dcem.data.cartpole import CartpoleStates
    from lit_dcem.data.joint import JointRollouts
    from lit_dcem.data.on_policy import OnPolicyRollouts
    from lit_dcem.data.regression import RegressionData
    from lit_dcem.data.rollouts import Rollouts
    from lit_dcem.experiments.cartpole_embedding import CartpoleEmbedding
    from lit_dcem.experiments.embedding_loss import EmbeddingLoss
    from lit_dcem.experiments.energy_regression import EnergyRegression
    from lit_dcem.experiments.planet_joint import PlanetJoint
    from lit_dcem.experiments.planet_phase1 import PlanetPhase1
    from lit_dcem.experiments.planet_phase2 import PlanetPhase2
    from lit_dcem.experiments.planet_phase3 import PlanetPhase3
    from lit_dcem.experiments.policy_gradient import PolicyGradient
    from lit_dcem.experiments.value_learning import ValueLearning
    from lit_dcem.models.action_decoder import ActionDecoder
    from lit_dcem.models.energy import EnergyNetwork
    from lit_dcem.models.rssm import RSSM
    from lit_dcem.models.value import ValueEnsemble, ValueHead
    from lit_dcem.models.world_model import WorldModel
    from lit_dcem.planning.cartpole import FullSpacePlanner
    from lit_dcem.planning.cartpole_pca import PCAPlanner
    from lit_dcem.planning.cem_planner import CEMPlanner
    from lit_dcem.planning.latent_planner import LatentPlanner
    from lit_dcem.planning.model_policy import ModelPolicy
    from lit_dcem.solvers.cem import DCEM, cem, dcem
    from lit_dcem.solvers.gradient_descent import UnrolledGD, unrolled_gd
    from lit_dcem.solvers.lml import LML, lml
    from lit_dcem.types import Iteration, Objective, Policy, Solution

_HOMES = {
    "ActionDecoder": "models.action_decoder",
    "CEMPlanner": "planning.cem_planner",
    "CartpoleEmbedding": "experiments.cartpole_embedding",
    "CartpoleStates": "data.cartpole",
    "DCEM": "solvers.cem",
    "LML": "solvers.lml",
    "EmbeddingLoss": "experiments.embedding_loss",
    "EnergyNetwork": "models.energy",
    "EnergyRegression": "experiments.energy_regression",
    "FullSpacePlanner": "planning.cartpole",
    "Iteration": "types",
    "JointRollouts": "data.joint",
    "LatentPlanner": "planning.latent_planner",
    "ModelPolicy": "planning.model_policy",
    "Objective": "types",
    "OnPolicyRollouts": "data.on_policy",
    "PCAPlanner": "planning.cartpole_pca",
    "PlanetJoint": "experiments.planet_joint",
    "PlanetPhase1": "experiments.planet_phase1",
    "PlanetPhase2": "experiments.planet_phase2",
    "PlanetPhase3": "experiments.planet_phase3",
    "Policy": "types",
    "PolicyGradient": "experiments.policy_gradient",
    "RSSM": "models.rssm",
    "RegressionData": "data.regression",
    "Rollouts": "data.rollouts",
    "Solution": "types",
    "UnrolledGD": "solvers.gradient_descent",
    "ValueEnsemble": "models.value",
    "ValueHead": "models.value",
    "ValueLearning": "experiments.value_learning",
    "WorldModel": "models.world_model",
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
    "Policy",
    "PolicyGradient",
    "RegressionData",
    "Rollouts",
    "Solution",
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
