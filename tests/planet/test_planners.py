"""Planning in a world model: full CEM and the latent space, for several environments, from one step to the next."""

import copy
import dataclasses
import inspect
import math
import textwrap

import pytest
import torch
from support.phases import ROLLOUTS, SIZES, fit
from support.planning import (
    ACTIONS,
    BOUNDS,
    DECAY,
    HORIZON,
    SEARCH,
    LinearModel,
    best_actions,
    place,
    some_belief,
    world_model,
)

from lit_dcem import (
    DCEM,
    ActionDecoder,
    CEMPlanner,
    LatentPlanner,
    ModelPolicy,
    PlanetPhase1,
    Rollouts,
    ValueHead,
    WorldModel,
)
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.planning.imagination import imagined_returns
from lit_dcem.planet.planning.plan_policy import PlanPolicy
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.problem import Noise, Problem, Rest

SLOW = pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")


@pytest.fixture(autouse=True)
def exact(processor):
    """Searches are compared with optima and with each other, on whatever processor."""
    processor(bfloat16=False)


def act(planner, model, belief, first=None, plans=None, seed=0):
    torch.manual_seed(seed)
    first = torch.ones(len(belief.deter), dtype=torch.bool) if first is None else torch.tensor(first)
    with torch.inference_mode():
        return planner(model, belief, first, plans)


@pytest.mark.parametrize("answer", ["mean", "best"])
def test_finds_the_optimum_of_a_linear_model_for_each_environment(answer):
    belief = place([1.0, -0.5], [-0.8, 0.2], [0.0, 0.0])
    planner = CEMPlanner(DCEM(**SEARCH), HORIZON, answer=answer)
    actions, plans = act(planner, LinearModel(), belief)
    torch.testing.assert_close(actions, best_actions(belief.deter)[:, 0], atol=0.06, rtol=0)
    assert plans.keys() == {"plan"} and torch.equal(plans["plan"][:, 0], actions)


def test_a_decoder_that_is_the_identity_finds_the_same_optimum():
    belief = place([1.0, -0.5], [-0.8, 0.2])
    decoder = ActionDecoder(HORIZON * ACTIONS, HORIZON, ACTIONS, hidden_dim=4)
    decoder.layers = torch.nn.Sequential(torch.nn.Identity())  # what remains is the squashing: 2 sigmoid(z) - 1
    planner = LatentPlanner(decoder, DCEM(**{**SEARCH, "lower": -3.0, "upper": 3.0}), initial_std=1.0)
    actions, _ = act(planner, LinearModel(), belief)
    torch.testing.assert_close(actions, best_actions(belief.deter)[:, 0], atol=0.06, rtol=0)


def seeing(**options):
    """A planner whose decoder sees the belief, `ACTIONS` and one numbers, and blends in the rest of the last plan."""
    torch.manual_seed(0)
    decoder = ActionDecoder(3, HORIZON, ACTIONS, hidden_dim=8, condition_dim=ACTIONS + 1, blends_rest=True)
    return LatentPlanner(decoder, DCEM(**{**SEARCH, "num_candidates": 20, "num_elites": 4, **options}))


def test_a_decoder_sees_the_belief_of_each_environment():
    planner, belief, points = seeing(), place([1.0, -0.5], [-0.8, 0.2]), torch.randn(2, 5, 3)
    plans = planner.decode(points, belief)
    assert plans.shape == (2, 5, HORIZON, ACTIONS)
    for env in range(2):
        alone = planner.decode(points[env, 3:4], Belief(*(part[env : env + 1] for part in belief)))
        torch.testing.assert_close(plans[env, 3:4], alone)


def test_a_search_is_no_worse_than_the_rest_of_the_last_plan():
    """Which is a candidate of it; with two candidates and one iteration the search finds little else."""
    model, planner = LinearModel(), seeing(num_candidates=2, num_elites=1, num_iterations=1)
    planner.set_options(answer="best")
    belief = place([0.9, -0.6], [0.5, 0.5])
    rest = Rest(best_actions(belief.deter), torch.tensor([True, False]))
    with torch.no_grad():
        solution = planner.solve(Problem(model, belief, rest))
        torch.testing.assert_close(planner.decode(solution.best, belief, rest)[0], rest.plan[0], atol=1e-3, rtol=0)
    assert (planner.candidates(belief, rest)[1] == 0).all()


def test_it_remembers_the_plan_until_an_episode_begins():
    planner, belief = seeing(), place([1.0, -0.5], [-0.8, 0.2])
    _, plans = act(planner, LinearModel(), belief)
    rest = planner.rest_of(plans, torch.tensor([False, True]))
    torch.testing.assert_close(rest.plan[:, :-1], plans["plan"][:, 1:])
    assert rest.counts.tolist() == [True, False]


@pytest.mark.parametrize("options", [{"condition_dim": 4}, {"action_dim": 3}])
def test_a_decoder_of_another_model_is_refused(options):
    decoder = ActionDecoder(**{"latent_dim": 2, "horizon": 3, "action_dim": 2, **options})
    model = WorldModel(3, 2, hidden_dim=8, rssm={"deter_dim": 8, "stoch_dim": 3})
    with pytest.raises(ValueError, match="condition_dim 0 or deter_dim \\+ stoch_dim, 2 and 11, got"):
        LatentPlanner(decoder, DCEM()).check_sizes(model)


def test_a_planner_sets_the_bounds_of_its_actions():
    """One where the solver was given none, or half of them."""
    free = {name: value for name, value in SEARCH.items() if name not in ("lower", "upper")}
    for bounds in ({}, {"lower": -1}, {"upper": torch.ones(HORIZON * ACTIONS)}):
        planner = CEMPlanner(DCEM(**free, **bounds), HORIZON)
        actions, _ = act(planner, LinearModel(), place([9.0, -9.0]))
        torch.testing.assert_close(actions, torch.tensor([[-1.0, 1.0]]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("bounds", [{"lower": -2.0}, {"lower": -1.0, "upper": torch.tensor([1.0, 0.5] * HORIZON)}])
def test_other_bounds_of_actions_are_refused(bounds):
    with pytest.raises(ValueError, match=r"CEMPlanner must have the bounds of actions, -1 and 1, got -.\.0 and"):
        CEMPlanner(DCEM(**{**SEARCH, **bounds}), HORIZON)
    with pytest.raises(
        ValueError, match=r"decoder of a LatentPlanner must .* -1 and 1, got \[-1\.0, -1\.0\] and \[1.0, 3.0\]"
    ):
        LatentPlanner(ActionDecoder(3, HORIZON, ACTIONS, upper=[1.0, 3.0]), DCEM(**SEARCH))


def test_bounds_hold_where_the_optimum_is_beyond_them():
    actions, _ = act(CEMPlanner(DCEM(**SEARCH), HORIZON), LinearModel(), place([9.0, -9.0]))
    torch.testing.assert_close(actions, torch.tensor([[-1.0, 1.0]]), atol=1e-3, rtol=0)


def test_a_warm_start_goes_on_where_the_last_plan_was():
    model, start = LinearModel(), place([0.9, -0.6])
    exact = best_actions(start.deter)[0]
    later = Belief(DECAY * start.deter + exact[0], start.stoch)
    planner = CEMPlanner(DCEM(**SEARCH), HORIZON, warm_start=True)
    _, plans = act(planner, model, start)
    short = CEMPlanner(DCEM(**{**SEARCH, "num_candidates": 20, "num_elites": 4, "num_iterations": 1}), HORIZON)
    wanted = best_actions(later.deter)[0, 0]
    errors = {}
    for name, warm in (("warm", True), ("cold", False)):
        short.set_options(warm_start=warm)
        found = [act(short, model, later, [False], plans if warm else None, seed)[0][0] for seed in range(20)]
        errors[name] = torch.stack([(action - wanted).norm() for action in found]).mean()
    assert errors["warm"] < 0.8 * errors["cold"]


def test_the_plan_is_shifted_and_ends_with_zeros():
    planner = CEMPlanner(DCEM(**SEARCH), HORIZON)
    plan = torch.arange(1.0, HORIZON * ACTIONS + 1).unsqueeze(0)
    assert planner.advance(plan, ACTIONS).tolist() == [[3, 4, 5, 6, 0, 0]]


def test_an_episode_that_begins_has_no_last_plan():
    model, belief = LinearModel(), place([0.9, -0.6], [0.3, 0.3])
    planner = CEMPlanner(DCEM(**SEARCH), HORIZON, warm_start=True)
    plans = [{name: torch.full((2, 6), value) for name in ("mean", "best")} for value in (0.2, 0.9)]
    ours, others = (act(planner, model, belief, [False, True], plan)[0] for plan in plans)
    assert torch.equal(ours[1], others[1]) and not torch.equal(ours[0], others[0])


@pytest.mark.parametrize("keep_plans", [False, True])
def test_a_decision_without_a_finite_return_does_not_break_the_next(keep_plans):
    def reward(observations, actions):
        return actions.sum(-1) * (math.nan if broken else 1.0)

    known = {"warm_start": True, "keep_plans": keep_plans, "known_reward": reward, "precision": "float32"}
    planner = CEMPlanner(DCEM(num_candidates=20, num_elites=4, num_iterations=3, temperature=0.0), horizon=5, **known)
    model, belief, plans = world_model(), some_belief(2), None
    for broken in (False, True, False):
        actions, plans = act(planner, model, belief, [plans is None] * 2, plans)
        assert actions.isnan().all() if broken else (actions > 0).all()


def test_a_plan_is_kept_while_no_new_one_promises_more():
    """A search of two candidates hardly finds a better plan than what is left of the best one."""
    poor = {"num_candidates": 2, "num_elites": 1, "num_iterations": 1, **BOUNDS}
    belief = place([1.0, -0.5], [-0.8, 0.2])
    plan = torch.cat([torch.zeros(2, 1, ACTIONS), best_actions(belief.deter)[:, : HORIZON - 1]], 1)
    planner = CEMPlanner(DCEM(**poor), horizon=HORIZON, keep_plans=True)
    actions, after = act(planner, LinearModel(), belief, [False, True], {"plan": plan})
    assert torch.equal(actions[0], plan[0, 1]) and torch.equal(after["plan"][0, :-1], plan[0, 1:])
    assert torch.equal(after["plan"][0, -1], plan[0, -1])
    assert not torch.equal(actions[1], plan[1, 1])  # an episode that begins has no last plan


def test_a_better_plan_replaces_what_is_left_of_a_bad_one():
    belief = place([1.0, -0.5], [-0.8, 0.2])
    bad = torch.ones(2, HORIZON, ACTIONS)
    planner = CEMPlanner(DCEM(**SEARCH), horizon=HORIZON, keep_plans=True)
    plain = CEMPlanner(DCEM(**SEARCH), horizon=HORIZON)
    kept, _ = act(planner, LinearModel(), belief, [False, False], {"plan": bad})
    assert torch.equal(kept, act(plain, LinearModel(), belief, [False, False])[0])


def test_imagined_returns_are_sums_of_rewards_along_single_rollouts():
    model, belief = world_model(), some_belief(2)
    actions, noise = torch.rand(HORIZON, 2, 3, ACTIONS), torch.randn(HORIZON, 2, 3, 4)
    returns = imagined_returns(model, Belief(*(part.unsqueeze(1) for part in belief)), actions, noise)
    assert returns.shape == (2, 3)
    start = Belief(belief.deter[1:], belief.stoch[1:])
    alone = model.rssm.imagine(start, actions[:, 1, 2:], noise=noise[:, 1, 2:])
    torch.testing.assert_close(returns[1, 2], model.reward(alone).sum())


@SLOW
def test_bfloat16_imagines_about_the_same_with_the_weights_of_now():
    model, belief = world_model(), some_belief(2)
    points = torch.rand(2, 50, HORIZON * ACTIONS) * 2 - 1
    planners = [CEMPlanner(DCEM(**SEARCH), HORIZON, sample=False, precision=p) for p in ("float32", "bfloat16")]
    for _ in range(2):
        with torch.inference_mode():
            exact, rough = (planner.objective(Problem(model, belief))(points) for planner in planners)
        assert exact.dtype == rough.dtype == torch.float32
        assert (exact - rough).abs().max() < 0.05 * exact.abs().max()
        assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.99
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


@SLOW
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_planning_leaves_the_model_alone(precision):
    model = world_model()
    before = copy.deepcopy(model.state_dict())
    planner = CEMPlanner(DCEM(**SEARCH), HORIZON, precision=precision)
    act(planner, model, some_belief(1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not list(planner.parameters()) and not planner.state_dict()


def test_a_search_with_means_differs_by_its_candidates_alone():
    model, belief = world_model(), some_belief(1)
    planner = CEMPlanner(DCEM(**SEARCH), HORIZON, sample=False)
    points = torch.rand(1, 4, HORIZON * ACTIONS)
    first, second = (planner.objective(Problem(model, belief))(points) for _ in range(2))
    assert torch.equal(first, second)
    sampling = CEMPlanner(DCEM(**SEARCH), HORIZON).objective(Problem(model, belief))
    assert not torch.equal(sampling(points), sampling(points))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script.* is deprecated:DeprecationWarning")
def test_compiled_imagination_is_the_same():
    model, belief = world_model(), some_belief(2)
    plain, compiled = (CEMPlanner(DCEM(**SEARCH), HORIZON, sample=False, compile=c) for c in (False, True))
    torch.testing.assert_close(*(act(p, model, belief)[0] for p in (plain, compiled)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"initial_std": float("inf")}, "got 12 and inf"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        CEMPlanner(DCEM(**SEARCH), **options)


def test_policy_follows_what_it_observes():
    model = world_model()
    model.scale.mean.fill_(1.0)
    model.scale.std.fill_(2.0)
    policy = ModelPolicy(model, CEMPlanner(DCEM(**SEARCH), HORIZON, warm_start=True))
    observations, actions = torch.randn(3, 2, 5), torch.rand(3, 2, ACTIONS)
    state, belief = None, model.rssm.initial(2)
    firsts = torch.tensor([[True, True], [False, False], [False, True]])
    for observation, action, first in zip(observations, actions, firsts, strict=True):
        torch.manual_seed(3)
        chosen, state = policy(observation, action, first, state)
        torch.manual_seed(3)
        belief = model.rssm.observe(belief, action, (observation - 1) / 2, first=first)[0].belief
        torch.testing.assert_close(state["deter"], belief.deter)
        torch.testing.assert_close(state["stoch"], belief.stoch)
    assert chosen.shape == (2, ACTIONS) and set(state) == {"deter", "stoch", "mean", "best", "plan"}
    assert not any(tensor.is_inference() for tensor in (chosen, *state.values()))


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "worst"}, "answer must be one of mean, best, got worst"),
        ({"precision": "float16"}, "precision must be one of auto, float32, bfloat16, got float16"),
        ({"warm_start": None}, "warm_start must be true or false, got None"),
    ],
)
def test_options_are_checked_when_given_and_when_changed(options, message):
    with pytest.raises(ValueError, match=message):
        CEMPlanner(DCEM(**SEARCH), **options)
    planner = seeing()
    with pytest.raises(ValueError, match=message):
        planner.set_options(**options)
    assert planner.options == seeing().options


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'keep_plan'"):
        CEMPlanner(DCEM(**SEARCH), keep_plan=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'keep_plan'"):
        seeing().set_options(keep_plan=True)


def test_options_change_by_set_options_alone():
    planner = CEMPlanner(DCEM(**SEARCH), warm_start=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        planner.options.warm_start = False
    planner.set_options(precision="float32")
    assert planner.options.precision == "float32" and planner.options.warm_start


def test_another_decoder_brings_its_horizon():
    planner = seeing()
    planner.use_decoder(ActionDecoder(2, HORIZON + 2, ACTIONS, hidden_dim=4))
    assert planner.horizon == HORIZON + 2 and planner.size(ACTIONS) == 2
    with pytest.raises(ValueError, match="must have the bounds of actions"):
        planner.use_decoder(ActionDecoder(3, HORIZON, ACTIONS, upper=3.0))
    assert planner.horizon == HORIZON + 2
    planner.solver = planner.solver.with_horizon(3)
    with pytest.raises(ValueError, match="must have a horizon that divides latent_dim, 2, got 3"):
        planner.use_decoder(ActionDecoder(2, HORIZON, ACTIONS, hidden_dim=4))


# Noise


def everything(planner):
    """All that a planner draws in two steps: a search, a warm start, kept plans, imagined states."""
    model, belief, first = world_model(), some_belief(2), torch.tensor([True, True])

    def draw(generator=None):
        with torch.inference_mode():
            _, plans = planner(model, belief, first, None, generator)
            action, plans = planner(model, belief, ~first, plans, generator)
        return [action, *plans.values()]

    return draw


def thrifty(**options):
    return DCEM(**{**SEARCH, "num_candidates": 20, "num_elites": 4, "num_iterations": 3, **options})


@pytest.mark.parametrize("options", [{"warm_start": True}, {"keep_plans": True, "answer": "best"}])
def test_all_noise_comes_from_the_generator_that_is_given(options):
    draw = everything(CEMPlanner(thrifty(), HORIZON, **options))
    torch.manual_seed(3)
    globally, before = draw(), torch.get_rng_state()
    ours = draw(torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, ours, globally))
    assert not all(map(torch.equal, draw(torch.Generator().manual_seed(4)), ours))


def test_a_generator_of_the_solver_serves_for_the_imagined_states_too():
    draw = everything(CEMPlanner(thrifty(generator=torch.Generator().manual_seed(3)), HORIZON, keep_plans=True))
    before = torch.get_rng_state()
    ours = draw()
    assert torch.equal(torch.get_rng_state(), before)
    given = everything(CEMPlanner(thrifty(), HORIZON, keep_plans=True))(torch.Generator().manual_seed(3))
    assert all(map(torch.equal, ours, given))


@pytest.mark.parametrize("keep_plans", [False, True])
def test_a_plan_by_seed_leaves_the_global_generator_alone(keep_plans):
    model, belief, planner = world_model(), some_belief(2), CEMPlanner(thrifty(), HORIZON, keep_plans=keep_plans)
    rest = planner.rest_of({"plan": torch.zeros(2, HORIZON, ACTIONS)}, torch.tensor([False, True]))
    before = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(*(planner.act(model, belief, 5, rest) for _ in range(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_policies_with_a_seed_leave_the_global_generator_alone():
    model, planner = world_model(), CEMPlanner(thrifty(), HORIZON)
    observed = torch.randn(2, 5), torch.zeros(2, ACTIONS), torch.tensor([True, True]), None
    value, chosen = ValueHead(32, 4, 8), []
    for seed in (3, 3, 4):
        policy = ModelPolicy(model, planner)
        exploring = PlanPolicy(policy, value, lambda: torch.full((ACTIONS,), 0.1), lambda: 5)
        before = torch.get_rng_state()
        chosen.append(torch.cat([each.with_seed(seed)(*observed)[0] for each in (policy, exploring)]))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(chosen[0], chosen[1]) and not (chosen[0] == chosen[2]).any()


def test_common_noise_is_one_row_for_all_environments():
    model, actions = world_model(), torch.zeros(HORIZON, 3, 7, ACTIONS)
    assert Noise().states(model, actions).shape == (HORIZON, 3, 7, 4)
    assert Noise(common=True).states(model, actions).shape == (HORIZON, 1, 7, 4)
    solver = Noise(torch.Generator(), common=True).solver(DCEM(**SEARCH))
    assert solver.options["common_noise"] and solver.options["generator"] is not None
    assert Noise().solver(DCEM(**SEARCH)).options == DCEM(**SEARCH).options


# Planners of other people


def random_shooting():
    """The planner in the documentation of `ModelPlanner`."""
    code = (inspect.getdoc(ModelPlanner) or "").partition("::\n\n")[2].partition("\nArgs:")[0]
    names = {"ModelPlanner": ModelPlanner, "DCEM": DCEM, "torch": torch}
    exec(textwrap.dedent(code), names)
    return names["RandomShooting"]


@torch.no_grad()
def test_the_documented_planner_shoots_at_random():
    torch.manual_seed(0)
    problem, planner = Problem(LinearModel(), place([0.8, -0.5], [-0.6, 0.2])), random_shooting()(HORIZON, 2000)
    points = torch.randn(2, 1000, HORIZON * ACTIONS)
    draws, costs = planner.decode(points, problem.belief), planner.objective(problem)(points)
    assert draws.abs().max() <= 1 and draws.std() == pytest.approx(3**-0.5, abs=0.02)  # uniform
    assert (planner.solve(problem).best_value < costs.quantile(0.02, 1)).all()
    actions, _ = act(planner, problem.model, problem.belief)
    torch.testing.assert_close(actions, best_actions(problem.belief.deter)[:, 0], atol=0.4, rtol=0)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_documented_planner_serves_in_phase_1(tmp_path):
    planner = random_shooting()(horizon=3, num_candidates=8)
    planner.set_options(warm_start=True)
    *_, trainer = fit(
        tmp_path, 2, make=lambda: (PlanetPhase1(WorldModel(3, 1, **SIZES), planner), Rollouts(**ROLLOUTS))
    )
    assert trainer.callback_metrics["val/return"].isfinite() and trainer.callback_metrics["train/loss"].isfinite()
