"""Base class of the phases whose planner is the policy that PPO learns."""

from __future__ import annotations

from lit_dcem.planet.data.evaluation_episodes import Evaluation
from lit_dcem.planet.data.on_policy import OnPolicyBatch, OnPolicyRollouts
from lit_dcem.planet.data.policies import Policies
from lit_dcem.planet.phases.planet import Planet, data_of
from lit_dcem.planet.phases.policy_gradient import PolicyGradient
from lit_dcem.planet.phases.policy_learning import PolicyLearning
from lit_dcem.training.optimizing import check_precision
from lit_dcem.training.seeds import seed_of

POLICY_METRICS = ("val/ppo_steps", "train/policy", "train/value", "train/policy_kl", "train/clipped", "train/ratio")


class LearnedPolicy(Planet):
    """An epoch is a step of PPO, unless cut short; subclasses set the attributes below, and define the updates.

    In addition to `Planet`, logs ``train/policy``, ``train/value`` (losses), ``train/policy_kl``, ``train/clipped``,
    ``train/ratio`` (of the policy to the one that acted, see `ppo`), and ``train/ppo_steps`` and ``val/ppo_steps``.
    """

    metrics = (*Planet.metrics, *POLICY_METRICS)
    policy_gradient: PolicyGradient
    policy_learning: PolicyLearning

    def policies(self) -> Policies:
        return Policies(self.policy, exploring=self.policy_learning.exploring, prepare=self.policy_gradient.prepare)

    def setup(self, stage: str) -> None:
        # In bfloat16, a density of a few nats has steps of 3%: its ratios would be noise.
        check_precision(self, "bf16-true")
        super().setup(stage)

    def on_train_batch_start(self, batch: OnPolicyBatch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.log("train/ppo_steps", float(batch.ppo_steps), batch_size=1)
        if self._rollouts().begins:
            self.policy_gradient.begin(self._rollouts().collection)

    def validation_step(self, batch: Evaluation, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self.trainer.state.fn == "fit":
            self.log("val/ppo_steps", float(self._rollouts().ppo_steps), batch_size=1)

    def _search_seed(self) -> int:
        """Seed of the search's noise in this step of PPO, the same on all processes."""
        return seed_of(self._rollouts().seed, self._rollouts().collection)

    def _rollouts(self) -> OnPolicyRollouts:
        return data_of(self, OnPolicyRollouts)
