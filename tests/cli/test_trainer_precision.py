"""``--trainer.precision`` for each experiment, as typed: it trains, validates, draws, saves, resumes, or is refused."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_dcem.cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16"),
    pytest.mark.filterwarnings("ignore:You passed `Trainer.accelerator='cpu', precision='16-mixed'"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:There will be no videos"),
]
CONFIGS = Path(__file__).parents[2] / "configs"
DTYPES = {
    "64-true": torch.float64, "32-true": torch.float32, "bf16-true": torch.bfloat16, "16-true": torch.float16,
    "16-mixed": torch.float32, "bf16-mixed": torch.float32,
}  # fmt: skip
SOLVER = ["--model.init_args.solver.init_args.num_candidates=8", "--model.init_args.solver.init_args.num_elites=3"]
TRAINING = [option.replace(".solver.", ".training_solver.") for option in SOLVER]
ONE_BATCH = ["--trainer.limit_train_batches=1", "--trainer.check_val_every_n_epoch=1", "--trainer.log_every_n_steps=1"]
PLANET = ["--data.time_limit=80", "--data.init_args.evaluation_episodes=1", *ONE_BATCH]
ENERGY = ["--model.init_args.energy.init_args.hidden_dim=8", "--model.init_args.validation_iterations=[1]", *ONE_BATCH]
EXPERIMENTS = {
    "regression": ("debug", [*ENERGY, *SOLVER]),
    "regression_gd": ("debug", ENERGY),
    "cartpole": ("debug", ["--model.init_args.decoder.init_args.hidden_dim=8", *SOLVER, *TRAINING, *ONE_BATCH]),
    "swingup_phase1": ("debug", ["--data.init_args.seed_updates=0", *PLANET]),
    "swingup_phase2": (
        "debug",
        [
            *["--model.start=swingup_phase1_1", "--data.initial_replay=null"],
            *["--data.init_args.seed_updates=0", *PLANET],
        ],
    ),
    "swingup_phase3": (
        "debug",
        ["--model.start=swingup_phase2_1", "--model.policy_gradient.value_steps=0", "--data.num_envs=2", *PLANET],
    ),
    "joint": ("debug", ["--model.init_args.policy_gradient.init_args.value_steps=0", *PLANET]),
}
PICTURES = {"regression": "energy and predictions", "regression_gd": "energy and predictions", "cartpole": "search"}
REFUSED = {(name, "16-true") for name in EXPERIMENTS} | {
    ("swingup_phase3", "bf16-true"),
    ("joint", "bf16-true"),
}
FAST = {
    *(
        ("regression", "bf16-true"),
        ("regression", "16-true"),
        ("swingup_phase3", "bf16-true"),
    ),
}
CASES = [
    pytest.param(name, precision, marks=[] if (name, precision) in FAST else pytest.mark.slow)
    for name in EXPERIMENTS
    for precision in DTYPES
]


def fit(name, precision, *more):
    debug, options = EXPERIMENTS[name]
    configs = [option for each in (name, debug) for option in ("--config", str(CONFIGS / f"{each}.yaml"))]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    main(["fit", *configs, *options, *quiet, f"--trainer.precision={precision}", *more])


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_it_works_or_says_why_not(tmp_path, monkeypatch, capsys, name, precision):
    monkeypatch.chdir(tmp_path)
    run = Path("runs", name, "version_0")
    if (name, precision) in REFUSED:
        with pytest.raises(SystemExit, match="2"):
            fit(name, precision)
        (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lit-dcem: ")]
        assert "cannot be trained in precision 16-true" in sentence and sentence.endswith(f", got {precision}.")
        assert not list(run.rglob("*.ckpt"))
        return
    fit(name, precision, "--trainer.max_epochs=1")
    fit(name, precision, "--trainer.max_epochs=2", "--ckpt_path=last")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 2  # finished
    # With an average over time, which Lightning keeps in float32, the weights of training are apart.
    weights = [v for v in saved.get("current_model_state", saved["state_dict"]).values() if v.is_floating_point()]
    assert {value.dtype for value in weights} == {DTYPES[precision]}
    assert all(value.isfinite().all() for value in weights)
    written = EventAccumulator(str(run)).Reload().Tags()
    assert any(PICTURES.get(name, "imagined") in tag for tag in written["images"])
    assert any(tag.startswith("val/") for tag in written["scalars"])
