"""Pictures and videos of PlaNet's episodes in TensorBoard, which leave training alone."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_dcem import DCEM, CEMPlanner, PlanetPhase1, Rollouts, WorldModel
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.evaluation_episodes import Evaluation
from lit_dcem.planet.figures.plots import PlanetPlots
from lit_dcem.planet.figures.rollout import CONTEXT, HORIZON, imagine, imagined_rollout

SEARCH = {"num_candidates": 8, "num_elites": 3, "num_iterations": 2, "temperature": 0.0, "lower": -1.0, "upper": 1.0}
ROLLOUTS = {
    "env": "cartpole-balance", "action_repeat": 50, "batch_size": 2, "sequence_length": 3, "seed": 0,
    "updates_per_epoch": 2, "seed_episodes": 1, "seed_updates": 1, "evaluation_episodes": 1,
}  # fmt: skip


def tiny_model(seed=0):
    torch.manual_seed(seed)
    return WorldModel(5, 1, hidden_dim=8, num_layers=1, rssm={"deter_dim": 8, "stoch_dim": 3})


def fit(path, callbacks):
    """Two validations; what TensorBoard then holds, and the weights."""
    pl.seed_everything(0, verbose=False)
    module = PlanetPhase1(tiny_model(), CEMPlanner(DCEM(**SEARCH), horizon=3))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=TensorBoardLogger(path), callbacks=callbacks,
        num_sanity_val_steps=0, log_every_n_steps=1, **quiet,
    )  # fmt: skip
    trainer.fit(module, Rollouts(**ROLLOUTS))
    return EventAccumulator(trainer.log_dir, size_guidance={"images": 0}).Reload(), module.state_dict()


def without_opengl(*_):
    raise UsageError("Pictures of a simulation need OpenGL.")


def picture(envs, index, height, width):
    return torch.randint(255, (height, width, 3), dtype=torch.uint8, generator=torch.Generator()).numpy()


def test_every_validation_shows_what_the_model_imagines_and_a_video(tmp_path, monkeypatch):
    monkeypatch.setattr(VectorEnv, "render", picture)
    events, weights = fit(tmp_path / "drawn", [PlanetPlots()])
    steps = [event.value for event in events.Scalars("val/simulator_steps")]
    videos = events.Images("pictures/episode")
    for tag in (events.Images("pictures/imagined"), videos, events.Scalars("val/return")):
        assert [event.step for event in tag] == steps
    assert (videos[0].height, videos[0].width) == (120, 160)
    assert videos[0].encoded_image_string.startswith(b"GIF89a")
    _, plain = fit(tmp_path / "plain", [])
    assert all(torch.equal(weights[name], plain[name]) for name in plain)


def test_without_opengl_one_warning_takes_the_place_of_videos(tmp_path, monkeypatch):
    monkeypatch.setattr(VectorEnv, "render", without_opengl)
    with pytest.warns(UserWarning, match=r"There will be no videos\. Pictures of a simulation need OpenGL") as warned:
        events, _ = fit(tmp_path, [PlanetPlots()])
    assert len([w for w in warned if "no videos" in str(w.message)]) == 1
    assert events.Tags()["images"] == ["pictures/imagined"]


@pytest.mark.slow
def test_videos_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(VectorEnv, "render", without_opengl)
    assert fit(tmp_path, [PlanetPlots(video=False)])[0].Tags()["images"] == ["pictures/imagined"]


def test_returns_are_logged_over_simulator_steps_and_losses_over_updates(tmp_path):
    events, _ = fit(tmp_path, [])
    last = events.Scalars("train/simulator_steps")[-1].value
    assert events.Scalars("val/return")[-1].step == events.Scalars("speed/steps_per_second")[-1].step == last
    ended = {event.step for event in events.Scalars("train/return")}  # in epochs in which an episode ended
    assert ended and ended <= {event.step for event in events.Scalars("val/return")}
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]


def episode(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    observations, actions = (torch.randn(size, generator=generator) for size in ((steps + 1, 5), (steps, 1)))
    return Evaluation(torch.zeros(1), observations, actions, torch.zeros(steps), torch.zeros(0, 2, 2, 3), 0.0)


def test_imagination_knows_observations_of_the_context_and_actions_of_the_whole():
    module = PlanetPhase1(tiny_model(), CEMPlanner(DCEM(**SEARCH)))
    whole = episode(30)

    def imagined(**changed):
        return imagine(module.world_model, whole._replace(**changed), 10).observations

    first = imagined()
    assert first.shape == (20, 5)
    unseen, seen, act = whole.observations.clone(), whole.observations.clone(), whole.actions.clone()
    unseen[11:] += 1
    seen[10] += 1
    act[15] += 1
    assert torch.equal(imagined(observations=unseen), first)
    assert not torch.equal(imagined(observations=seen)[0], first[0])
    changed = (imagined(actions=act) != first).any(-1)
    assert changed.tolist() == [False] * 5 + [True] * 15


def test_imagination_is_in_the_units_of_the_environment():
    module = PlanetPhase1(tiny_model(), CEMPlanner(DCEM(**SEARCH)))
    whole = episode(30)
    plain = imagine(module.world_model, whole, 10).observations
    module.world_model.scale.mean.fill_(3.0)
    module.world_model.scale.std.fill_(2.0)
    scaled = whole._replace(observations=3 + 2 * whole.observations)
    torch.testing.assert_close(imagine(module.world_model, scaled, 10).observations, 3 + 2 * plain)


@pytest.mark.parametrize("steps", [2, 30, 500])
def test_picture_of_episodes_of_any_length(steps):
    module = PlanetPhase1(tiny_model(), CEMPlanner(DCEM(**SEARCH)))
    figure = imagined_rollout(module.world_model, episode(steps))
    real, predicted = figure.axes[0].lines[:2]
    context = min(CONTEXT, steps // 2)
    assert list(predicted.get_xdata()) == list(range(context + 1, min(context + HORIZON, steps) + 1))
    assert real.get_xdata()[0] == 1 and figure.axes[1].lines[0].get_xdata()[0] == 0
