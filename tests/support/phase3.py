"""A small phase 3 of PlaNet."""

import functools

import torch
from support.phases import SEARCH, SIZES, fit

from lit_dcem import (
    DCEM,
    ActionDecoder,
    LatentPlanner,
    OnPolicyRollouts,
    PlanetPhase3,
    PolicyGradient,
    ValueHead,
    WorldModel,
)

SOFT = {**SEARCH, "temperature": 1.0}
ROLLOUTS = {
    "env": "Pendulum-v1", "action_repeat": 20, "num_envs": 2, "num_episodes": 3, "passes": 2, "num_batches": 2,
    "evaluation_episodes": 2, "seed": 3,
}  # fmt: skip
KEEPING = {"planner": {"keep_plans": True}}
BLENDING = {"decoder": {"condition_dim": 11, "blends_rest": True}}
ALL = {"decoder": {}, "reward": {"lr": 1e-4}, "transition": {"lr": 1e-4}}


def module(seed=0, solver=None, learner=None, planner=None, decoder=None, **options):
    torch.manual_seed(seed)
    decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1, init_scale=3.0, **(decoder or {}))
    planner = LatentPlanner(decoder, DCEM(**(solver or SOFT)), **(planner or {}))
    value = ValueHead(8, 3, hidden_dim=8, num_layers=1, scale=10.0)
    learner = PolicyGradient(value, 1, **{"std": 0.3, **(learner or {})})
    settings = {"optimizer": functools.partial(torch.optim.Adam, lr=1e-2), **options}
    return PlanetPhase3(WorldModel(3, 1, **SIZES), planner, learner, **settings)


def parts(rollouts=None, **options):
    return module(**options), OnPolicyRollouts(**{**ROLLOUTS, **(rollouts or {})})


class Recorder:
    """Keeps what a phase logs, batch by batch."""

    def __init__(self, phase):
        self.rows, self._log_dict = [], phase.log_dict
        phase.log_dict = self

    def __call__(self, values, **options):
        if "train/ratio" in values:
            self.rows.append({name: float(torch.as_tensor(value).detach()) for name, value in values.items()})
        self._log_dict(values, **options)


def recorded(path, epochs, **options):
    phase, data = parts(**options)
    recorder = Recorder(phase)
    *_, trainer = fit(path, epochs, make=lambda: (phase, data))
    return recorder.rows, phase, trainer
