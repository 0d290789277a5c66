"""Recurrent state-space model (RSSM) of PlaNet (arXiv 1811.04551), from proprioception as in section 5.3 of the paper.

Time: action t leads to observation t. Both belong to belief t, and so does the reward that came with them::

    belief t-1 --action t--> belief t --> observation t, reward t

No action led to the first observation of an episode: action and reward are zeros there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_dcem.planet.model.belief import Belief, Gaussian, Posterior
from lit_dcem.planet.model.mlp import MLP


class RSSM(nn.Module):
    r"""A recurrent model with a deterministic state h and a stochastic state x, which observations correct.

    .. math:: h_t = \mathrm{GRU}(h_{t-1}, \mathrm{input}(x_{t-1}, u_t)), \qquad x_t \sim \mathrm{prior}(h_t)
        \quad \text{or} \quad x_t \sim \mathrm{posterior}(h_t, o_t)

    With action u and observation o; batch dimensions come before the sizes shown::

        prior                                        posterior

        u [A] ------.                                u [A] ------.
                    v                                            v
        x [30] --> input [3 x 200]                   x [30] --> input [3 x 200]
                    v                                            v
        h [200] -> GRU --> h' [200]                  h [200] -> GRU --> h' [200]
                            v                                            v
                          prior --> mean, std [30]   o [O] -----------> posterior --> mean, std [30]
                                       v                                                 v
                                       x' [30]                                           x' [30]

    The paper gives sizes, "GRU" and "two hidden layers of 200, ReLU". The rest follows PlaNet's public code: a hidden
    layer between (x, u) and the GRU, prior and posterior from the new h, ``std = softplus(.) + min_std``, and zeros as
    the initial belief. GRU and initial weights are PyTorch's: `input` and `recurrent` are the two matrices of
    `torch.nn.GRUCell`, whose reset gate is applied to the candidate after its recurrent matrix.

    Args:
        observation_dim: O, numbers in an observation.
        action_dim: A, numbers in an action.
        deter_dim: size of h (paper: 200).
        stoch_dim: size of x (paper: 30).
        hidden_dim: width of the hidden layers (paper: 200).
        num_layers: hidden layers of prior and posterior (paper: 2; PlaNet's code: 1).
        input_layers: hidden layers between (x, u) and the GRU (PlaNet's code: 1; the paper's formula as written: 0).
        min_std: lower bound of the standard deviations of prior and posterior (PlaNet's code: 0.1).

    Raises:
        ValueError: a size or ``min_std`` out of range.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        deter_dim: int = 200,
        stoch_dim: int = 30,
        hidden_dim: int = 200,
        num_layers: int = 2,
        input_layers: int = 1,
        min_std: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = {"observation_dim": observation_dim, "action_dim": action_dim, "deter_dim": deter_dim}
        _check(min_std, input_layers, **sizes, stoch_dim=stoch_dim, hidden_dim=hidden_dim, num_layers=num_layers)
        self.observation_dim, self.action_dim, self.min_std = observation_dim, action_dim, min_std
        self.deter_dim, self.stoch_dim = deter_dim, stoch_dim
        self.input = MLP(stoch_dim + action_dim, hidden_dim, input_layers, 3 * deter_dim)
        self.recurrent = nn.Linear(deter_dim, 3 * deter_dim)
        self.prior = MLP(deter_dim, hidden_dim, num_layers, 2 * stoch_dim)
        self.posterior = MLP(deter_dim + observation_dim, hidden_dim, num_layers, 2 * stoch_dim)

    def initial(self, batch: int | Sequence[int]) -> Belief:
        """The belief before the first observation: zeros, on the device and in the precision of the weights."""
        sizes = [batch] if isinstance(batch, int) else batch
        return Belief(*(self.recurrent.weight.new_zeros([*sizes, dim]) for dim in (self.deter_dim, self.stoch_dim)))

    def observe(
        self,
        belief: Belief,
        action: Float[Tensor, "*batch action_dim"],
        observation: Float[Tensor, "*batch observation_dim"],
        *,
        first: Bool[Tensor, "*batch"] | None = None,
        noise: Float[Tensor, "*batch stoch_dim"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Posterior, Gaussian]:
        """Posterior and prior after one action and its observation; the options are those of `observe_sequence`."""
        first, noise = (None if given is None else given[None] for given in (first, noise))
        options = {"belief": belief, "first": first, "noise": noise, "generator": generator}
        ((deter, stoch), posterior), prior = self.observe_sequence(action[None], observation[None], **options)
        posterior, prior = (Gaussian(mean[0], std[0]) for mean, std in (posterior, prior))
        return Posterior(Belief(deter[0], stoch[0]), posterior), prior

    def observe_sequence(
        self,
        actions: Float[Tensor, "time *batch action_dim"],
        observations: Float[Tensor, "time *batch observation_dim"],
        *,
        belief: Belief | None = None,
        first: Bool[Tensor, " time *batch"] | None = None,
        noise: Float[Tensor, "time *batch stoch_dim"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Posterior, Gaussian]:
        """Posteriors and priors of T steps, stacked over time: every tensor is ``[T, *batch, size]``.

        Args:
            actions: action t led to observation t.
            observations: as the environment gives them.
            belief: before action 0; by default `initial`.
            first: where an episode begins: the belief before it and the action are replaced by zeros.
            noise: standard normal, for the posteriors' samples; zeros give the means.
            generator: draws the noise if none is given; by default torch's global one.

        Raises:
            ValueError: actions or observations of the wrong size.
        """
        check_size("actions", actions, self.action_dim)
        check_size("observations", observations, self.observation_dim)
        deter, stoch = self.initial(actions.shape[1:-1]) if belief is None else belief
        if first is not None:
            actions = actions.masked_fill(first[..., None], 0)
        noise = self.draw_noise(actions, generator) if noise is None else noise
        pushes, from_stoch = self.input.split(self.stoch_dim, actions)
        sights, from_deter = self.posterior.split(self.deter_dim, observations)
        steps = []
        for t, (push, sight, draw) in enumerate(zip(pushes.unbind(), sights.unbind(), noise.unbind(), strict=True)):
            if first is not None:
                deter, stoch = (state.masked_fill(first[t, ..., None], 0) for state in (deter, stoch))
            deter = self._recur(deter, self.input.rest(push + F.linear(stoch, from_stoch)))
            posterior = self._gaussian(self.posterior.rest(sight + F.linear(deter, from_deter)), deter)
            stoch = posterior.sample(draw)
            steps.append((deter, stoch, *posterior))
        deters, stochs, means, stds = (torch.stack(tensors) for tensors in zip(*steps, strict=True))
        return Posterior(Belief(deters, stochs), Gaussian(means, stds)), self._gaussian(self.prior(deters), deters)

    def predict(
        self,
        belief: Belief,
        action: Float[Tensor, "*batch action_dim"],
        first: Bool[Tensor, "*batch"] | None = None,
    ) -> tuple[Float[Tensor, "*batch deter_dim"], Gaussian]:
        """The deterministic state after one action, and the prior of the stochastic one; ``first`` as in `observe`."""
        if first is not None:
            belief = Belief(*(state.masked_fill(first[..., None], 0) for state in belief))
            action = action.masked_fill(first[..., None], 0)
        push, from_stoch = self.input.split(self.stoch_dim, action)
        deter = self._recur(belief.deter, self.input.rest(push + F.linear(belief.stoch, from_stoch)))
        return deter, self._gaussian(self.prior(deter), deter)

    def imagine(
        self,
        belief: Belief,
        actions: Float[Tensor, "horizon *batch action_dim"],
        *,
        sample: bool = True,
        noise: Float[Tensor, "horizon *batch stoch_dim"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Belief:
        """Beliefs after each of H actions, without observations: ``[H, *batch, size]``.

        The batch of the belief may broadcast to that of the actions: for N candidates at each of B beliefs, pass
        ``[B, 1, size]`` and ``[H, B, N, A]``. The recurrence of the first step is then computed for the B beliefs only.

        Args:
            belief: before the first action.
            actions: in the order in which they are taken.
            sample: draw from the priors (PlaNet's code); with False, take their means, which is a little faster.
            noise: standard normal, for the samples.
            generator: draws the noise if none is given; by default torch's global one.

        Raises:
            ValueError: actions of the wrong size.
        """
        if sample and noise is None:
            noise = self.draw_noise(actions, generator)
        beliefs = list(self.imagine_steps(belief, actions, noise if sample else None))
        return Belief(*(torch.stack(states) for states in zip(*beliefs, strict=True)))

    def imagine_steps(
        self,
        belief: Belief,
        actions: Float[Tensor, "horizon *batch action_dim"],
        noise: Float[Tensor, "horizon *batch stoch_dim"] | None,
    ) -> Iterator[Belief]:
        """The beliefs of `imagine` one by one, so that each can be used while it is in the processor's cache.

        With noise they are samples of the priors, without noise their means.
        """
        check_size("actions", actions, self.action_dim)
        (deter, stoch), draws = belief, [None] * len(actions) if noise is None else noise.unbind()
        for action, draw in zip(actions.unbind(), draws, strict=True):
            stoch = stoch.expand(*action.shape[:-1], -1)
            deter = self._recur(deter, self.input(torch.cat([stoch, action], -1)))
            prior = self._gaussian(self.prior(deter), deter)
            stoch = prior.mean if draw is None else prior.sample(draw)
            yield Belief(deter, stoch)

    def draw_noise(
        self, actions: Float[Tensor, "*batch action_dim"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch stoch_dim"]:
        """Standard normal noise of the size of x for each action; by default from torch's global generator."""
        options = {"dtype": self.recurrent.weight.dtype, "device": actions.device, "generator": generator}
        return torch.randn([*actions.shape[:-1], self.stoch_dim], **options)

    def _recur(self, deter: Tensor, inputs: Tensor) -> Tensor:
        """One step of the GRU; ``inputs`` are the outputs of `input`."""
        gates, candidate = inputs.split([2 * self.deter_dim, self.deter_dim], -1)
        own_gates, own = self.recurrent(deter).split([2 * self.deter_dim, self.deter_dim], -1)
        reset, update = (gates + own_gates).sigmoid().chunk(2, -1)
        new = torch.addcmul(candidate, reset, own).tanh()
        return torch.lerp(new.to(deter.dtype), deter, update.to(deter.dtype))

    def _gaussian(self, outputs: Tensor, deter: Tensor) -> Gaussian:
        mean, std = outputs.to(deter.dtype).chunk(2, -1)
        return Gaussian(mean, F.softplus(std) + self.min_std)


def check_size(name: str, tensor: Tensor, size: int) -> None:
    """Raise a ValueError unless the last dimension has the size."""
    if not tensor.ndim or tensor.shape[-1] != size:
        raise ValueError(f"{name} must have {size} numbers each, got {list(tensor.shape)}.")


def _check(min_std: float, input_layers: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")
    if input_layers < 0:
        raise ValueError(f"input_layers must be at least 0, got {input_layers}.")
    if not 0 < min_std < math.inf:
        raise ValueError(f"min_std must be positive and finite, got {min_std}.")
