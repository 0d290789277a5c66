"""In which precision planners imagine: what the processor is good at, or what they were told."""

import platform
import types
from pathlib import Path

import pytest
import torch
import yaml
from support.phase3 import ALL, module, recorded
from support.planning import ACTIONS, HORIZON, SEARCH, some_belief, world_model

from lit_dcem import DCEM, ActionDecoder, CEMPlanner, LatentPlanner
from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.planet.planning import precision
from lit_dcem.planet.planning.problem import Problem
from lit_dcem.training.bfloat16 import multiplies_bfloat16_faster

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def instructions(monkeypatch, machine, onednn, avx512_bf16=False, amx=False):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops, "mkldnn", onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    multiplies_bfloat16_faster.cache_clear()


ABSENT, NO, YES = (
    types.SimpleNamespace(**names)
    for names in ({}, {"_is_mkldnn_bf16_supported": lambda: False}, {"_is_mkldnn_bf16_supported": lambda: True})
)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("given", "faster"),
    [
        (("x86_64", NO), False),  # AVX2
        (("x86_64", YES), False),  # AVX-512, which oneDNN widens to float32 on
        (("x86_64", YES, True), True),
        (("AMD64", YES, False, True), True),
        (("x86_64", NO, True), False),  # told to leave its instructions alone
        (("aarch64", YES), True),
        (("aarch64", NO), False),
        (("arm64", ABSENT), False),  # macOS: built without oneDNN
    ],
)
def test_bfloat16_counts_as_faster_where_there_are_instructions_for_it(monkeypatch, given, faster):
    instructions(monkeypatch, *given)
    assert multiplies_bfloat16_faster(CPU) is faster


def test_the_processor_of_now_is_asked():
    assert multiplies_bfloat16_faster(CPU) in (True, False)
    assert not multiplies_bfloat16_faster(torch.device("meta"))


def planners(**options):
    torch.manual_seed(0)
    decoder = ActionDecoder(2, HORIZON, ACTIONS, hidden_dim=8)
    return CEMPlanner(DCEM(**SEARCH), HORIZON, **options), LatentPlanner(decoder, DCEM(**SEARCH), **options)


@pytest.mark.parametrize(("bfloat16", "same_as"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_the_default_and_what_is_faster(processor, bfloat16, same_as):
    processor(bfloat16)
    model, belief = world_model(), some_belief(2)
    for ours, theirs in zip(planners(sample=False), planners(sample=False, precision=same_as), strict=True):
        points = torch.rand(2, 5, ours.size(ACTIONS)) - 0.5
        with torch.no_grad():
            assert torch.equal(
                ours.objective(Problem(model, belief))(points), theirs.objective(Problem(model, belief))(points)
            )


def test_auto_leaves_other_precisions_alone(processor):
    processor(True)
    model, belief = world_model().double(), some_belief(2)
    belief = type(belief)(*(part.double() for part in belief))
    planner, exact = planners(sample=False)[0], planners(sample=False, precision="float32")[0]
    points = torch.rand(2, 5, planner.size(ACTIONS), dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(
            planner.objective(Problem(model, belief))(points), exact.objective(Problem(model, belief))(points)
        )


def test_gradients_reach_the_model_on_every_processor(processor):
    processor(True)
    model = world_model()
    planners()[0].solve(Problem(model, some_belief(1))).value.sum().backward()
    assert all(parameter.grad is not None for parameter in model.reward_head.parameters())


def test_bfloat16_by_name_is_warned_of_once_and_done(processor):
    processor(False)
    model, belief = world_model(), some_belief(1)
    first, second = planners(precision="bfloat16")
    with pytest.warns(UserWarning, match=r"no instructions for bfloat16: .*9 times on x86 with AVX2"):
        first.objective(Problem(model, belief))
    second.objective(Problem(model, belief))  # a warning would be an error here
    processor(True)
    first.objective(Problem(model, belief))


def test_copies_follow_their_model_without_a_look_at_it(monkeypatch):
    """As on an accelerator: a backward pass of before a change fails, and one without a change does not."""
    monkeypatch.setattr(precision, "is_free_to_look", lambda tensor: False)
    model, copies = torch.nn.Linear(2, 1), precision.ModelCopies()
    copied = copies.of(model, torch.float64)
    points = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    before, after = copied(points).sum(), copied(points).sum()
    assert copies.of(model, torch.float64) is copied
    before.backward()
    with torch.no_grad():
        model.weight.mul_(2)
    copies.of(model, torch.float64)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        after.backward()
    model.bias.data.fill_(3)
    copies.of(model, torch.float64)
    assert all(map(torch.equal, copied.parameters(), model.double().parameters()))


def test_another_model_has_a_copy_of_its_own():
    copies = precision.ModelCopies()
    models = [torch.nn.PReLU(), torch.nn.Linear(2, 1)]
    assert [type(copies.of(model, torch.float64)) for model in models] == [type(model) for model in models]


def test_phase_3_acts_in_the_precision_that_its_gradients_need():
    assert module(tuned=ALL).planner.options.precision == "float32"
    assert module().planner.options.precision == "auto"


def test_every_ratio_is_one_before_the_first_update_on_every_processor(tmp_path, processor):
    processor(True)
    still = {"tuned": {name: {"lr": 0.0} for name in ALL}, "value_options": {"lr": 0.0}}
    rows, *_ = recorded(tmp_path, 1, **still)
    assert rows and all(row["train/ratio"] == 0 for row in rows)


def test_under_autocast_a_policy_plans_the_same():
    model, belief, planner = world_model(), some_belief(2), planners()[1]
    with torch.no_grad():
        plan = planner.act(model, belief, seed=1)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(planner.act(model, belief, seed=1), plan)


def precisions(config):
    """Of all planners in a config."""
    if isinstance(config, dict):
        own = [config["precision"]] if "precision" in config else []
        return own + [found for value in config.values() for found in precisions(value)]
    return [found for value in config for found in precisions(value)] if isinstance(config, list) else []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_leave_the_precision_to_the_processor(path):
    assert set(precisions(yaml.safe_load(path.read_text()))) <= {"auto"}


@pytest.mark.parametrize("path", sorted((ROOT / "checkpoints").glob("*_phase?*.ckpt")), ids=lambda path: path.stem)
def test_shipped_checkpoints_leave_it_to_the_processor_too(path):
    found = precisions(read_checkpoint(path)["hyper_parameters"])
    assert found and set(found) <= {"auto", "float32"}
