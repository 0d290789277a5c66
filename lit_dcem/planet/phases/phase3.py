"""PlaNet, phase 3: PPO through the embedded controller (section 5.3 of the paper, figures 4 and 13)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_dcem.planet.data.environment_data import same_task
from lit_dcem.planet.data.on_policy import OnPolicyBatch
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.phases.learned_policy import LearnedPolicy
from lit_dcem.planet.phases.policy_gradient import PolicyGradient
from lit_dcem.planet.phases.policy_learning import PolicyLearning, check_policy_planner
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.training.optimizing import optimize
from lit_dcem.training.start import start_from

PARTS = ("decoder", "reward", "transition")
CONTROLLER = ("world_model", "planner.decoder")
POLICY = (*CONTROLLER, "policy_gradient.value")
STARTS = {"PlanetPhase2": CONTROLLER, "PlanetPhase3": POLICY, "PlanetJoint": POLICY}
"""what it takes over from the checkpoint of a class"""
VALUE = {"planner.value": "planner.value"}
SHARED = {
    "PlanetPhase2": VALUE | {"policy_gradient.value": "planner.value.heads.0"},
    "PlanetPhase3": VALUE,
    "PlanetJoint": VALUE,
}
"""what it also takes over from a class, and of what, if both have it"""
INHERITS = {
    "PlanetPhase2": {"world_model": "world_model", "planner": "planner"},
    "PlanetPhase3": {"world_model": "world_model", "planner": "planner", "policy_gradient": "policy_gradient"},
    "PlanetJoint": {"world_model": "world_model", "planner": "planner", "policy_gradient": "policy_gradient"},
}
"""for each class, parts that a config need not state, as those of the checkpoint in ``start`` are taken"""


class PlanetPhase3(LearnedPolicy):
    """Makes the embedded controller the policy of PPO, whose gradients reach decoder and model through DCEM.

    An action is drawn from a Gaussian around the first action of a plan. `OnPolicyRollouts` collects episodes, and an
    epoch of updates learns from them: one step of PPO. The noise of the search is the same for all beliefs of such a
    step, in collection and updates, and new in the next step. The world model is not trained on what was seen.

    Logs what `LearnedPolicy` says.

    Args:
        world_model: of phase 2; its sizes must be those of the environment.
        planner: chooses actions, from zero each time; in its search gradients go, at a temperature above 0, through all
            iterations (or ``grad_iterations`` of them). At temperature 0 they reach the decoder at the answer alone.
        policy_gradient: value network and losses.
        tuned: what learns, of "decoder", "reward" (head) and "transition" (of the RSSM), each with options of the
            optimizer (paper: lr 1e-4 or 1e-5); by default the decoder alone.
        value_options: of the optimizer for the value network.
        start: checkpoint, exported or not, to begin with: of `PlanetPhase2`, or of `PlanetPhase3` or `PlanetJoint`,
            for their value network, too. If the planner of phase 2 has learned a value, the value network begins as
            a copy of its first head, and must have its sizes.
        optimizer: made from groups of parameters. The Trainer's ``gradient_clip_val`` (paper: 0.5) is for the norm of
            each group by itself.
        lr_scheduler: steps once an epoch; one that waits for a plateau watches ``val/return``, with the mode max.

    Raises:
        ValueError: an option out of range, or parts that no gradient reaches.
    """

    inherits = INHERITS
    planner: LatentPlanner

    def __init__(
        self,
        world_model: WorldModel,
        planner: LatentPlanner,
        policy_gradient: PolicyGradient,
        tuned: dict[str, dict[str, Any]] | None = None,
        value_options: dict[str, Any] | None = None,
        start: str | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(world_model, planner)
        self.tuned = {"decoder": {}} if tuned is None else tuned
        check_tuned(self.tuned, planner)
        if planner.options.precision == "auto" and set(self.tuned) != {"decoder"}:
            planner.set_options(precision="float32")  # when acting, too: an update computes what the policy computed
        self.policy_gradient = policy_gradient
        self.value_options = value_options or {}
        self.start = start
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self._freeze()
        learned = [parameter for name in self.tuned for parameter in self._part(name).parameters()]
        self.policy_learning = PolicyLearning(self.policy, policy_gradient, learned, self._search_seed)

    def on_fit_start(self) -> None:
        if self.start is not None and self.trainer.ckpt_path is None:  # a resumed run has all it needs
            weights = start_from(self.start, self, STARTS, partial(same_task, vars(self._rollouts())), also=SHARED)
            if "planner.value.scale" in weights and "policy_gradient.log_std" not in weights:
                self.policy_gradient.value.rescale(weights["planner.value.scale"].item())

    def training_step(self, batch: OnPolicyBatch, batch_idx: int) -> Tensor:
        value, of_value = self.policy_learning.value_loss(batch.share)
        policy, of_policy = self.policy_learning.policy_loss(batch.steps, self.trainer.strategy)
        self.log_dict(of_value | of_policy, batch_size=1)
        self._log_progress(batch)
        return value + policy

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups = [{"params": list(self._part(name).parameters()), **given} for name, given in self.tuned.items()]
        groups.append({"params": self.policy_gradient.parameters(), **self.value_options})
        return optimize(groups, self.optimizer, self.lr_scheduler, *self.monitor, module=self)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip, but while only the value learns drop the other gradients first."""
        if self.policy_gradient.stopped:  # without a gradient, the optimizer's momentum does not move a parameter
            for parameter in self.policy_learning.parameters:
                parameter.grad = None
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _part(self, name: str) -> nn.Module:
        rssm = self.world_model.rssm
        return {
            "decoder": self.planner.decoder,
            "reward": self.world_model.reward_head,
            "transition": nn.ModuleList([rssm.input, rssm.recurrent, rssm.prior]),
        }[name]

    def _freeze(self) -> None:
        for module in (self.world_model, self.planner):
            module.requires_grad_(False)
        for name in self.tuned:
            self._part(name).requires_grad_(True)


def check_tuned(tuned: dict[str, dict[str, Any]], planner: LatentPlanner) -> None:
    """Raise a ValueError unless the parts that learn are known, and gradients reach them through the planner."""
    unknown = [name for name in tuned if name not in PARTS]
    if unknown or not tuned:
        raise ValueError(f"tuned must be some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}.")
    check_policy_planner(planner)
    model = [name for name in tuned if name != "decoder"]
    if model and not planner.solver.is_differentiable:
        raise ValueError(f"Gradients reach {model[0]} at a temperature above 0 alone, got temperature 0.")
    if model and planner.options.precision == "bfloat16":
        raise ValueError(f"Gradients reach {model[0]} in precision float32 alone, got bfloat16.")
