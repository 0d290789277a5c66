"""Models to plan in, and where plans start."""

import torch

from lit_dcem import WorldModel
from lit_dcem.planet.model.belief import Belief

HORIZON, ACTIONS = 3, 2
BOUNDS = {"temperature": 0.0, "lower": -1.0, "upper": 1.0}
SEARCH = {"num_candidates": 200, "num_elites": 20, "num_iterations": 10, **BOUNDS}
DECAY, EFFORT = 0.5, 0.3


class PointMass:
    """Stands for an RSSM: deter' = DECAY * deter + action, and nothing to draw."""

    action_dim = ACTIONS

    def __init__(self):
        self.recurrent = torch.nn.Linear(ACTIONS, ACTIONS)

    def draw_noise(self, actions, generator=None):
        return torch.zeros(*actions.shape[:-1], 1)

    def imagine_steps(self, belief, actions, noise):
        deter = belief.deter
        for action in actions.unbind():
            deter = DECAY * deter + action
            yield Belief(torch.cat([deter, action], -1), belief.stoch)


class LinearModel:
    """A point that should be at the origin, at some effort: a linear model with quadratic rewards."""

    def __init__(self):
        self.rssm = PointMass()

    def reward(self, beliefs):
        place, action = beliefs.deter.chunk(2, -1)
        return -place.square().sum(-1) - EFFORT * action.square().sum(-1)


def best_actions(deter):
    """The optimum of the linear model by least squares, ``[E, H, A]``: bounds do not bind from where we start."""
    rows, goals = [], []
    for t in range(HORIZON):
        rows.append(torch.tensor([DECAY ** (t - s) if s <= t else 0.0 for s in range(HORIZON)]))
        goals.append(-(DECAY ** (t + 1)) * deter)
    rows += list(EFFORT**0.5 * torch.eye(HORIZON))
    goals += [torch.zeros_like(deter)] * HORIZON
    matrix = torch.stack(rows).double()
    solution = torch.linalg.lstsq(matrix, torch.stack(goals).flatten(1).double()).solution
    return solution.view(HORIZON, *deter.shape).transpose(0, 1).float()


def place(*rows):
    deter = torch.tensor(rows)
    return Belief(deter, torch.zeros(len(deter), 1))


def world_model(seed=0):
    torch.manual_seed(seed)
    return WorldModel(5, ACTIONS, hidden_dim=32, rssm={"deter_dim": 32, "stoch_dim": 4})


def some_belief(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Belief(torch.rand(count, 32, generator=generator) - 0.5, torch.randn(count, 4, generator=generator))
