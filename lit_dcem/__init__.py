from lit_dcem.solvers.cem import DCEM, cem, dcem
from lit_dcem.solvers.gradient_descent import UnrolledGD, unrolled_gd
from lit_dcem.solvers.lml import LML, lml
from lit_dcem.types import Iteration, Objective, Solution
