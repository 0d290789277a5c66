"""Phase 2 of PlaNet: a decoder learns beside the world model, from what searches through it lead to."""

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from support.phases import ROLLOUTS, SEARCH, SIZES, assert_equal, assert_killed_run_goes_on, assert_same, fit, lines

from lit_dcem import (
    DCEM,
    ActionDecoder,
    CEMPlanner,
    EmbeddingLoss,
    LatentPlanner,
    PlanetPhase1,
    PlanetPhase2,
    Rollouts,
    WorldModel,
)
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.episode import Episode
from lit_dcem.planet.data.replay import EpisodeReplay
from lit_dcem.planet.model.belief import Belief

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
SOFT = {**SEARCH, "temperature": 1.0}


def module(seed=0, **options):
    torch.manual_seed(seed)
    decoder = ActionDecoder(2, 3, 1, hidden_dim=8, num_layers=1, init_scale=3.0)
    planner = LatentPlanner(decoder, DCEM(**SEARCH), **options.pop("planner", {}))
    settings = {"training_solver": DCEM(**SOFT), "num_beliefs": 3, "normalize": True, **options}
    return PlanetPhase2(WorldModel(3, 1, **SIZES), planner, **settings)


def parts(rollouts=None, **options):
    return module(**options), Rollouts(**{**ROLLOUTS, **(rollouts or {})})


def beliefs(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Belief(torch.rand(count, 8, generator=generator), torch.randn(count, 3, generator=generator))


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")
@pytest.mark.parametrize("planner", [{}, {"precision": "bfloat16", "warm_start": True}], ids=["plain", "bf16"])
@pytest.mark.slow
def test_resumed_run_is_bit_identical(tmp_path, stop, planner):
    fit(tmp_path / "whole", make=parts, planner=planner)
    fit(tmp_path / "cut", stop, make=parts, planner=planner)
    torch.manual_seed(9)
    fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", make=parts, planner=planner)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_decoder_step_gives_gradients_to_the_decoder_alone(temperature):
    phase = module(training_solver=DCEM(**{**SEARCH, "temperature": temperature}))
    belief = Belief(*(part.requires_grad_() for part in beliefs(4)))
    phase.decoder_learning.loss(belief).backward()
    moved = {name for name, parameter in phase.named_parameters() if parameter.grad is not None}
    assert moved == {f"planner.decoder.{name}" for name, _ in phase.planner.decoder.named_parameters()}
    assert all(parameter.grad.abs().sum() > 0 for parameter in phase.planner.decoder.parameters())
    assert all(part.grad is None for part in belief)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_decoder_gradient_agrees_with_finite_differences(checkpoint):
    phase = module(training_solver=DCEM(**SOFT, checkpoint=checkpoint))
    belief, weight = Belief(*(part.double() for part in beliefs(2))), phase.planner.decoder.layers[0].weight

    def loss():
        torch.manual_seed(3)
        return phase.decoder_learning.loss(belief)

    (gradient,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        for index in [(0, 0), (3, 1), (7, 0)]:
            values = []
            for change in (1e-6, -2e-6):
                weight[index] += change
                values.append(loss().item())
            weight[index] += 1e-6
            assert gradient[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_two_groups_are_clipped_apart():
    """A huge gradient of the model leaves the decoder's as it is."""
    phase = module(decoder_clip=0.5)
    optimizer = phase.configure_optimizers()
    for parameter in phase.world_model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    for parameter in phase.planner.decoder.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    phase.configure_gradient_clipping(optimizer, 2.0, "norm")
    norms = [torch.cat([p.grad.flatten() for p in group["params"]]).norm().item() for group in optimizer.param_groups]
    assert norms[0] == pytest.approx(2.0) and norms[1] < 0.5
    assert phase.planner.decoder.layers[0].weight.grad.max().item() == pytest.approx(1e-3)
    with pytest.raises(UsageError, match="clips gradients by norm, got gradient_clip_algorithm value"):
        phase.configure_gradient_clipping(optimizer, 2.0, "value")


def test_a_cost_of_logits_keeps_actions_off_their_bounds(tmp_path):
    fast = {"decoder_options": {"lr": 0.05}, "loss": EmbeddingLoss(answer=0.0, best=1.0)}
    actions = []
    for cost in (0.0, 50.0):
        phase, *_ = fit(tmp_path / str(cost), make=parts, logit_cost=cost, **fast)
        actions.append(phase.planner.decoder(torch.randn(100, 2)).abs().mean().item())
    assert actions[1] < 0.7 * actions[0]


def test_acting_beliefs_and_learning_off_line(tmp_path):
    _, data, trainer = fit(tmp_path / "acting", 2, make=parts, beliefs="acting", rollouts={"update_interval": 2})
    assert trainer.global_step == 10 and data.policy_state["deter"].shape == (2, 8)
    off_line = {"update_interval": 0, "initial_replay": str(tmp_path / "acting"), "seed_episodes": 1}
    _, data, trainer = fit(tmp_path / "off", 2, make=parts, rollouts=off_line)
    assert trainer.global_step == 10 and data.simulator_steps == 0 and data.policy_state is None


def phase1(path, seed=4, **sizes):
    """A checkpoint of phase 1, as the command line writes it."""
    torch.manual_seed(seed)
    model = PlanetPhase1(WorldModel(3, 1, **{**SIZES, **sizes}), CEMPlanner(DCEM(**SEARCH), horizon=3), normalize=True)
    model.world_model.scale.std.fill_(2.0)
    options = {"env": ROLLOUTS["env"], "action_repeat": ROLLOUTS["action_repeat"]}
    content = {"state_dict": model.state_dict(), "global_step": 1, "datamodule_hyper_parameters": options}
    torch.save({**content, "hyper_parameters": {"_class_path": "lit_dcem.PlanetPhase1"}}, path)
    return model, content


def test_starts_from_phase_1(tmp_path):
    model, _ = phase1(tmp_path / "phase1.ckpt")
    phase, data = parts(start=str(tmp_path / "phase1.ckpt"), optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    fit(tmp_path / "run", 1, make=lambda: (phase, data))
    for name, value in model.state_dict().items():
        assert torch.equal(phase.state_dict()[name], value), name


def test_goes_on_from_a_checkpoint_of_its_own(tmp_path):
    _, content = phase1(tmp_path / "phase1.ckpt")
    earlier, _ = parts(seed=9)
    own = {"state_dict": earlier.state_dict(), "hyper_parameters": {"_class_path": "lit_dcem.PlanetPhase2"}}
    torch.save({**content, **own}, tmp_path / "phase2.ckpt")
    phase, data = parts(start=str(tmp_path / "phase2.ckpt"), optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    fit(tmp_path / "run", 1, make=lambda: (phase, data))
    for name, value in earlier.state_dict().items():
        assert torch.equal(phase.state_dict()[name], value), name


def test_resumed_run_needs_no_checkpoint_of_phase_1(tmp_path):
    phase1(tmp_path / "phase1.ckpt")
    fit(tmp_path / "run", 1, make=parts, start=str(tmp_path / "phase1.ckpt"))
    (tmp_path / "phase1.ckpt").unlink()
    *_, trainer = fit(tmp_path / "run", 2, resume=tmp_path / "run" / "last.ckpt", make=parts, start="gone.ckpt")
    assert trainer.global_step == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hyper_parameters": {"_class_path": "lit_dcem.PlanetPhase3"}},
            "a checkpoint of PlanetPhase1 or PlanetPhase2 or PlanetJoint, got one of",
        ),
        (
            {"datamodule_hyper_parameters": {"env": "cheetah-run", "action_repeat": 4}},
            "cheetah-run with action repeat",
        ),
        ({"state_dict": {}}, "must have the shapes of the model, got none and"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(tmp_path, changes, message):
    path = tmp_path / "phase1.ckpt"
    phase1(path)
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    with pytest.raises(UsageError, match=message):
        fit(tmp_path / "run", 1, make=parts, start=str(path))


def test_another_size_of_model_is_one_sentence(tmp_path):
    phase1(tmp_path / "phase1.ckpt", hidden_dim=9)
    with pytest.raises(UsageError, match="must have the shapes of the model"):
        fit(tmp_path / "run", 1, make=parts, start=str(tmp_path / "phase1.ckpt"))


def test_a_replay_that_does_not_fit_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="initial_replay must be the folder of a run that has a replay, got"):
        fit(tmp_path / "run", 1, make=parts, rollouts={"initial_replay": str(tmp_path)})
    EpisodeReplay(tmp_path / "replay/rank_0", 4, 1).append(episode(4))
    with pytest.raises(UsageError, match=r"episodes\.f32 must hold episodes with observation_dim 3 and"):
        fit(tmp_path / "run", 1, make=parts, rollouts={"initial_replay": str(tmp_path)})


def episode(observation_dim, reward=0.0):
    return Episode(torch.zeros(3, observation_dim), torch.zeros(2, 1), torch.full((2,), reward), terminated=False)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_out_another_runs_episodes(tmp_path, monkeypatch, processes):
    for i in range(5):
        replay = EpisodeReplay(tmp_path / f"replay/rank_{i % 2}", 3, 1)
        if i > 1:
            replay.take_all()
        replay.append(episode(3, reward=float(i)))
    options, rewards = {"initial_replay": str(tmp_path), "seed_episodes": 1, "update_interval": 0}, []
    for rank in range(processes):
        monkeypatch.setattr(Trainer, "global_rank", rank)
        monkeypatch.setattr(Trainer, "world_size", processes)
        _, data, _ = fit(tmp_path / f"run_{rank}", 1, make=parts, rollouts=options)
        rewards.append([data.replay.episode(i).rewards[0].item() for i in range(data.replay.num_episodes)])
    assert sorted(each for of_process in rewards for each in of_process) == [0, 1, 2, 3, 4]
    assert max(map(len, rewards)) - min(map(len, rewards)) <= 1


def test_loss_of_elites_can_train_the_decoder(tmp_path):
    loss = EmbeddingLoss(answer=0.0, best=1.0, elites=1.0, num_elites=2)
    phase, *_ = fit(tmp_path, 1, make=parts, loss=loss, training_solver=DCEM(**SEARCH))
    assert torch.isfinite(torch.cat([p.flatten() for p in phase.planner.decoder.parameters()])).all()


@pytest.mark.parametrize("stop", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_seed_episodes_may_be_planned_and_resume_exactly(tmp_path, stop):
    options = {"seed_planner": CEMPlanner(DCEM(**SEARCH), horizon=3, warm_start=True), "planner": {"warm_start": True}}
    fit(tmp_path / "whole", make=parts, **options)
    fit(tmp_path / "cut", stop, make=parts, **options)
    fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", make=parts, **options)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")
    fit(tmp_path / "uniform", 1, make=parts, planner={"warm_start": True})
    assert lines(tmp_path / "uniform")[1] != lines(tmp_path / "whole")[1]


@pytest.mark.slow
def test_averaged_weights_are_validated_and_resume_exactly(tmp_path):
    options = {"make": parts, "planner": {"keep_plans": True}}
    fit(tmp_path / "whole", also=[EMAWeightAveraging(decay=0.9)], **options)
    fit(tmp_path / "cut", 3, also=[EMAWeightAveraging(decay=0.9)], **options)
    fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", also=[EMAWeightAveraging(decay=0.9)], **options)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")
    fit(tmp_path / "plain", **options)
    assert lines(tmp_path / "plain") == lines(tmp_path / "whole")  # what acts and learns is the model itself
    weights = [torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("plain", "whole")]
    assert_equal(weights[0]["state_dict"], weights[1]["current_model_state"], "weights")
    returns = [[row["val/return"] for row in each["callbacks"]["History"]["rows"]] for each in weights]
    assert all(plain != averaged for plain, averaged in zip(*returns, strict=True))


@pytest.mark.slow
def test_killed_run_goes_on_bit_identical(tmp_path):
    assert_killed_run_goes_on(tmp_path, 20, __name__)
