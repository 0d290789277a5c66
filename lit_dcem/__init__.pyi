# ruff: noqa: I001 (in the order of what they are for)
# The public names, listed here alone: `__init__.py` reads this file, and loads each name on first use.

# Solve: the differentiable cross-entropy method, on any objective.
from lit_dcem.solvers.cem import DCEM as DCEM
from lit_dcem.solvers.cem import cem as cem
from lit_dcem.solvers.cem import dcem as dcem
from lit_dcem.solvers.gradient_descent import UnrolledGD as UnrolledGD
from lit_dcem.solvers.gradient_descent import unrolled_gd as unrolled_gd
from lit_dcem.solvers.lml import LML as LML
from lit_dcem.solvers.lml import lml as lml
from lit_dcem.solvers.minimize import Minimizer as Minimizer
from lit_dcem.solvers.minimize import minimize as minimize
from lit_dcem.solvers.presets import cma as cma
from lit_dcem.solvers.presets import icem as icem
from lit_dcem.solvers.presets import mppi as mppi
from lit_dcem.solvers.search import Search as Search
from lit_dcem.solvers.types import Iteration as Iteration
from lit_dcem.solvers.types import Objective as Objective
from lit_dcem.solvers.types import Solution as Solution

# Plan with any model.
from lit_dcem.envs.physics import Physics as Physics
from lit_dcem.planet.planning.imagined import ImaginedModel as ImaginedModel
from lit_dcem.solvers.planning import Memory as Memory
from lit_dcem.solvers.planning import Plan as Plan
from lit_dcem.solvers.planning import Planner as Planner
from lit_dcem.solvers.prediction import PlanningModel as PlanningModel
from lit_dcem.solvers.prediction import RolloutModel as RolloutModel

# Use what was trained.
from lit_dcem.planet.controller import Controller as Controller
from lit_dcem.planet.controller import load_controller as load_controller
from lit_dcem.planet.controller import load_pretrained as load_pretrained
from lit_dcem.training.checkpoint import Checkpoint as Checkpoint

# Subclass, and name the subclass in a config.
from lit_dcem.cartpole.planners import CartpolePlanner as CartpolePlanner
from lit_dcem.planet.planning.planner import ModelPlanner as ModelPlanner
from lit_dcem.solvers.solver import Solver as Solver

# Learned action spaces.
from lit_dcem.embedding.decoder import ActionDecoder as ActionDecoder
from lit_dcem.embedding.loss import EmbeddingLoss as EmbeddingLoss

# Regression.
from lit_dcem.regression.data import RegressionData as RegressionData
from lit_dcem.regression.energy import EnergyNetwork as EnergyNetwork
from lit_dcem.regression.module import EnergyRegression as EnergyRegression
from lit_dcem.regression.plots import RegressionPlots as RegressionPlots

# Cartpole.
from lit_dcem.cartpole.figures.plots import CartpolePlots as CartpolePlots
from lit_dcem.cartpole.module import CartpoleEmbedding as CartpoleEmbedding
from lit_dcem.cartpole.pca import PCAPlanner as PCAPlanner
from lit_dcem.cartpole.planners import FullSpacePlanner as FullSpacePlanner
from lit_dcem.cartpole.states import CartpoleStates as CartpoleStates

# PlaNet.
from lit_dcem.planet.data.joint import JointRollouts as JointRollouts
from lit_dcem.planet.data.on_policy import OnPolicyRollouts as OnPolicyRollouts
from lit_dcem.planet.data.rollouts import Rollouts as Rollouts
from lit_dcem.planet.figures.plots import PlanetPlots as PlanetPlots
from lit_dcem.planet.model.rssm import RSSM as RSSM
from lit_dcem.planet.model.value import ValueEnsemble as ValueEnsemble
from lit_dcem.planet.model.value import ValueHead as ValueHead
from lit_dcem.planet.model.world_model import WorldModel as WorldModel
from lit_dcem.planet.phases.joint import PlanetJoint as PlanetJoint
from lit_dcem.planet.phases.phase1 import PlanetPhase1 as PlanetPhase1
from lit_dcem.planet.phases.phase2 import PlanetPhase2 as PlanetPhase2
from lit_dcem.planet.phases.phase3 import PlanetPhase3 as PlanetPhase3
from lit_dcem.planet.phases.policy_gradient import PolicyGradient as PolicyGradient
from lit_dcem.planet.phases.value_learning import ValueLearning as ValueLearning
from lit_dcem.planet.planning.cem import CEMPlanner as CEMPlanner
from lit_dcem.planet.planning.latent import LatentPlanner as LatentPlanner
from lit_dcem.planet.planning.policy import ModelPolicy as ModelPolicy
from lit_dcem.envs.policy import Policy as Policy

__version__: str
