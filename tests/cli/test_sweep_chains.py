"""A sweep of chains: phases follow one another, each is evaluated, and what was stopped goes on bit for bit."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from support.command_runs import assert_same_run, command

from lit_dcem.cli.sweep import backends, checking, execution, sweep
from lit_dcem.cli.sweep.grid import plan, read_sweep
from lit_dcem.cli.sweep.process import TIMED_OUT
from lit_dcem.cli.sweep.run import Evaluation, Run
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import EVALUATION_SEEDS, TEST_SEED, VALIDATION_SEED

CONFIGS = Path(__file__).parents[2] / "configs"
START = {"model.init_args.start": "checkpoints/best.ckpt"}
PHASES = [{"configs": ["a.yaml"]}, {"configs": ["a.yaml"], "starts": START}]
CONTENT = {
    "metric": "val/return",
    "mode": "max",
    "grid": {"seed_everything": [0, 1]},
    "evaluation": {"episodes": 3},
    "chains": {"cheetah-run": PHASES, "walker-walk": PHASES},
}


@pytest.fixture
def write(tmp_path):
    """Writes a sweep file beside its config, with some entries changed."""
    (tmp_path / "a.yaml").write_text("trainer: {max_epochs: 3}")

    def write(**changes):
        content = {name: value for name, value in {**CONTENT, **changes}.items() if value is not None}
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return tmp_path / "s.yaml"

    return write


@pytest.fixture
def done(monkeypatch):
    """Replaces training and evaluation, which end as ``done.ends`` says of a name, else well; lists their names.

    Nothing is checked before.
    """
    names, ends = [], {}

    def execute(process, threads, limit):
        names.append(process.name)
        if isinstance(process, Run):
            _train(process)
        else:
            seeds = list(EVALUATION_SEEDS[:3])
            process.folder.mkdir(exist_ok=True)
            result = {"returns": [seed / 10 for seed in seeds], "env_seeds": seeds}
            process.report.write_text(json.dumps({"results": {"PlanetPhase1": result}}))
            process.record("waiting", checkpoint="best.ckpt")
        process.log.write_text("the end\n")
        process.record(ends.get(process.name, "done"))
        return process

    execute.names, execute.ends = names, ends
    monkeypatch.setattr(execution, "execute", execute)
    monkeypatch.setattr(checking, "check_runs", lambda runs, metric: None)
    return execute


def _train(run):
    rows = [
        {"step": 5.0 * i, "seconds": 1.0 * i, "val/return": value, "val/simulator_steps": 1000.0 * i}
        for i, value in enumerate((3.0, 7.0, 5.0), 1)
    ]
    run.last.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {}, "global_step": 15, "callbacks": {"History": {"rows": rows}}}, run.last)
    run.last.with_name("best.ckpt").write_bytes(b"")


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def name(task, phase, seed):
    return f"task={task},phase={phase},seed={seed}"


def chain(task, seed):
    return [each for i in (1, 2) for each in (name(task, i, seed), f"{name(task, i, seed)}, evaluation")]


def test_phases_of_a_chain_go_in_order(write, done, tmp_path):
    sweep(write(), tmp_path / "out", jobs=2)
    assert len(done.names) == 16
    for task in ("cheetah-run", "walker-walk"):
        for seed in (0, 1):
            assert [each for each in done.names if each in chain(task, seed)] == chain(task, seed)
    sweep(write(), tmp_path / "out", jobs=2)
    assert len(done.names) == 16  # neither trained nor evaluated again


def test_tables_of_chains(write, done, tmp_path, capsys):
    path = sweep(write(), tmp_path / "out", jobs=1)
    rows = table(path)
    assert [(row["task"], row["phase"], row["seed"]) for row in rows[:3]] == [
        ("cheetah-run", "1", "0"),
        ("cheetah-run", "2", "0"),
        ("cheetah-run", "1", "1"),
    ]
    assert len(rows) == 8 and rows[0]["best"] == "7.0" and rows[0]["best_step"] == "10.0"  # the highest
    assert rows[0]["mean_return"] == "90000.2"
    curves = table(path.with_name("curves.csv"))
    assert list(curves[0]) == ["task", "phase", "seed", "simulator_steps", "metric", "value"]
    returns = [row for row in curves if row["metric"] == "val/return"][:3]
    assert [(row["simulator_steps"], row["value"]) for row in returns] == [
        ("1000.0", "3.0"),
        ("2000.0", "7.0"),
        ("3000.0", "5.0"),
    ]
    episodes = table(path.with_name("returns.csv"))
    assert list(episodes[0]) == ["task", "phase", "seed", "checkpoint", "episode_seed", "return"]
    assert len(episodes) == 24
    assert [(row["episode_seed"], row["return"], row["checkpoint"]) for row in episodes[:2]] == [
        ("900001", "90000.1", "best.ckpt"),
        ("900002", "90000.2", "best.ckpt"),
    ]
    assert "evaluated" in capsys.readouterr().out


def test_a_phase_may_have_a_name(write, done, tmp_path):
    named = [PHASES[0], {**PHASES[1], "phase": "2 fine-tuned"}]
    sweep(write(chains={"swingup": named}, grid={"seed_everything": [0]}), tmp_path / "out", jobs=1)
    assert [row["phase"] for row in table(tmp_path / "out" / "results.csv")] == ["1", "2 fine-tuned"]
    assert (tmp_path / "out" / "task=swingup,phase=2-fine-tuned,seed=0").is_dir()
    sweep(write(chains={"swingup": named}, grid={"seed_everything": [0]}), tmp_path / "out", jobs=1)
    assert len(done.names) == 4  # nothing is done again


def test_a_failure_stops_its_chain_alone(write, done, tmp_path):
    failing = name("cheetah-run", 1, 1)
    done.ends[failing] = "failed"
    with pytest.raises(UsageError, match=rf"got 1 of 16 that failed: \S*{failing}/log.txt \(the end\)\.$"):
        sweep(write(), tmp_path / "out", jobs=2)
    assert len(done.names) == 16 - 3 and not set(chain("cheetah-run", 1)[1:]) & set(done.names)
    done.ends.clear()
    sweep(write(), tmp_path / "out", jobs=2)
    assert done.names[13:] == chain("cheetah-run", 1)


def test_a_failed_evaluation_does_not_stop_its_chain(write, done, tmp_path):
    failing = f"{name('walker-walk', 1, 0)}, evaluation"
    done.ends[failing] = "failed"
    with pytest.raises(
        UsageError, match=r"got 1 of 16 that failed: \S*walker-walk,phase=1,seed=0/evaluation/log.txt \(the end\)\.$"
    ):
        sweep(write(), tmp_path / "out", jobs=1)
    assert len(done.names) == 16
    assert len(table(tmp_path / "out/returns.csv")) == 21
    done.ends.clear()
    sweep(write(), tmp_path / "out", jobs=1)
    assert done.names[16:] == [failing]


def test_after_a_phase_that_is_out_of_time_none_begins(write, done, tmp_path):
    done.ends[name("cheetah-run", 1, 0)] = "out of time"
    sweep(write(grid={"seed_everything": [0]}), tmp_path / "out", jobs=2, budget=60)
    assert [each for each in done.names if "cheetah" in each] == [name("cheetah-run", 1, 0)]
    assert [row["status"] for row in table(tmp_path / "out/results.csv")] == ["out of time", "done", "done"]


def test_a_phase_may_take_all_that_its_chain_has_left(write, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(backends.time, "monotonic", lambda: now[0])
    first, evaluation, second, last = plan(read_sweep(write(grid={"seed_everything": [0]})), tmp_path)[:4]
    steps = backends.steps_of([first, evaluation, second, last], 100.0)
    assert next(steps) == (first, 100.0)
    first.record("done")
    now[0] = 30.0
    assert next(steps) == (evaluation, 70.0)
    evaluation.record("done")
    now[0] = 99.5
    assert not list(steps) and second.recorded()["status"] == "out of time"


def test_other_episodes_are_evaluated_again(write, done, tmp_path):
    sweep(write(), tmp_path / "out", jobs=2)
    sweep(write(evaluation={"episodes": 2}), tmp_path / "out", jobs=2)
    assert len(done.names) == 24 and all(each.endswith("evaluation") for each in done.names[16:])


def test_another_start_needs_another_folder(write, done, tmp_path):
    sweep(write(), tmp_path / "out", jobs=2)
    other = [PHASES[0], {**PHASES[1], "starts": {"model.init_args.start": "checkpoints/last.ckpt"}}]
    with pytest.raises(
        UsageError, match="phase=2,seed=0 must be resumed as it began, got other starts: use another --out"
    ):
        sweep(write(chains={"cheetah-run": other}), tmp_path / "out", jobs=2)


def test_a_phase_put_in_the_middle_needs_another_folder(write, done, tmp_path, monkeypatch):
    """Or what came after it would count as done, though it began elsewhere."""
    execute = execution.execute
    monkeypatch.setattr(execution, "execute", lambda process, *more: (process.begin(None), execute(process, *more))[1])
    third = {**PHASES[1], "phase": "ppo"}
    sweep(write(chains={"cheetah-run": [*PHASES, third]}), tmp_path / "out", jobs=2)
    sweep(write(chains={"cheetah-run": [*PHASES, third]}), tmp_path / "out", jobs=2)
    assert len(done.names) == 12
    longer = [*PHASES, {**PHASES[1], "phase": "tuned"}, third]
    with pytest.raises(UsageError, match="phase=ppo,seed=0 must be resumed as it began, got other start: use another"):
        sweep(write(chains={"cheetah-run": longer}), tmp_path / "out", jobs=2)


def test_phases_do_not_share_a_config(write, done, tmp_path):
    for folder, text in (("fast", "{max_epochs: 1}"), ("slow", "{max_epochs: 9}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.yaml").write_text(f"trainer: {text}")
    chains = {"a": [{"phase": "b_1", "configs": ["fast/p.yaml"]}], "a_b": [{"configs": ["slow/p.yaml"]}]}
    runs = [each for each in plan(read_sweep(write(chains=chains)), tmp_path / "out") if isinstance(each, Run)]
    assert len({path for run in runs for path in run.configs}) == 2


@pytest.mark.parametrize("best", [True, False])
def test_a_phase_starts_from_the_one_before(write, tmp_path, best):
    """From its best checkpoint, or the last one if it has no other; and goes on with that when all is moved."""
    first, _, second, _ = plan(read_sweep(write()), tmp_path / "out")[:4]
    _train(first)
    first.record("done")
    if not best:
        first.best.unlink()
    start = f"--model.init_args.start={first.folder}/version_0/checkpoints/{'best' if best else 'last'}.ckpt"
    assert start in second.begin(None)
    _train(second)
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = plan(read_sweep(write()), tmp_path / "moved")[2]
    assert moved.before.last.exists()
    again = moved.begin(None)
    assert start in again and f"--ckpt_path={moved.last}" in again


def test_the_evaluation_is_of_100_episodes_with_seeds_that_nothing_else_has(tmp_path):
    processes = plan(read_sweep(CONFIGS / "sweep_planet.yaml"), tmp_path)
    runs = [each for each in processes if isinstance(each, Run)]
    assert len(processes) == 60 and len(runs) == 30
    assert [each.columns["phase"] for each in runs[:4]] == [1, 2, 3, 1] and runs[1].before is runs[0]
    evaluation = processes[1]
    assert isinstance(evaluation, Evaluation) and evaluation.run is runs[0]
    typed = evaluation.begin(None)
    assert {"--episodes=100", "--env_seed=900001"} <= set(typed)
    seeds = range(900_001, 900_101)
    assert all(seed in EVALUATION_SEEDS for seed in seeds)
    assert max(EVALUATION_SEEDS) < min(VALIDATION_SEED, TEST_SEED)


def test_the_walker_is_fine_tuned_through_dcem_before_ppo(tmp_path):
    """From its own phase 2, model and replay; the other phases keep the paper's numbers."""
    processes = plan(read_sweep(CONFIGS / "sweep_planet.yaml"), tmp_path)
    walker = [each for each in processes if isinstance(each, Run) and each.columns["task"] == "walker-walk"][:4]
    assert [each.columns["phase"] for each in walker] == [1, 2, "2-dcem", 3]
    _train(walker[1])
    walker[1].record("done")
    typed, tuned = walker[2].begin(None), f"{walker[1].folder}/version_0"
    assert f"--model.init_args.start={tuned}/checkpoints/best.ckpt" in typed
    assert f"--data.init_args.initial_replay={tuned}" in typed
    assert "--trainer.max_epochs=40" in typed and sum("finetune_dcem.yaml" in each for each in typed) == 1
    assert walker[3].before is walker[2]


@pytest.mark.parametrize(
    ("code", "report", "status"),
    [
        (0, True, "done"),
        (0, False, "failed"),
        (2, False, "failed"),
        (TIMED_OUT, False, "out of time"),
        (-signal.SIGKILL, False, "cut off"),
        (130, False, "cut off"),
    ],
)
def test_an_evaluation_ends(write, tmp_path, monkeypatch, code, report, status):
    def call(command, seconds, **_):
        assert command[3] == "evaluate" and seconds == 20.0 and not evaluation.report.exists()
        if report:
            evaluation.report.write_text("{}")
        return code

    execution.STOP.clear()
    evaluation = plan(read_sweep(write()), tmp_path / "out")[1]
    evaluation.record("waiting")
    evaluation.report.write_text("{}")
    monkeypatch.setattr(execution, "_call", call)
    assert execution.execute(evaluation, 1, 20.0).recorded()["status"] == status


def test_a_process_ends_at_its_limit():
    execution.STOP.clear()
    assert execution._call([sys.executable, "-c", "import time; time.sleep(60)"], 0.5) == TIMED_OUT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_our_own_ends_the_sweep(write, tmp_path, monkeypatch, jobs):
    def execute(process, threads, limit):
        raise OSError("disk")

    monkeypatch.setattr(execution, "execute", execute)
    monkeypatch.setattr(checking, "check_runs", lambda runs, metric: None)
    with pytest.raises(OSError, match="disk"):
        sweep(write(), tmp_path / "out", jobs=jobs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"configs": ["a.yaml"]}, "got chains missing or unknown"),
        ({"chains": None}, "got configs missing or unknown"),
        ({"chains": {}}, "chains must be a dict that is not empty"),
        ({"chains": [1]}, "chains must be a dict"),
        ({"chains": {1: PHASES}}, "named by text that is not empty, got 1"),
        ({"chains": {"a": []}}, r"The chain a must be a list of phases that is not empty, got \[\]"),
        ({"chains": {"a": [3]}}, "Phase 1 of a must have configs, and .* arguments and phase alone, got 3"),
        ({"chains": {"a": [{"config": 3}]}}, "phase alone, got {'config': 3}"),
        ({"chains": {"a": [{"configs": []}]}}, "Configs in phase 1 of a must be a list that is not empty"),
        ({"chains": {"a": [{**PHASES[0], "arguments": [1]}]}}, "Arguments in phase 1 of a must be a dict"),
        ({"chains": {"a": [PHASES[1]]}}, "The first phase of a has none to start from"),
        ({"chains": {"a": [PHASES[0], {**PHASES[0], "starts": {"b": "/x"}}]}}, "inside the folder .*, got /x"),
        ({"chains": {"a": [PHASES[0], {**PHASES[0], "starts": {"b": "../x"}}]}}, r"inside the folder .*, got \.\./x"),
        ({"chains": {"a": [PHASES[0], {**PHASES[0], "starts": {"b": 3}}]}}, "inside the folder .*, got 3"),
        ({"chains": {"a": [{**PHASES[0], "arguments": {"seed_everything": 1}}]}}, "given once.*, got seed_everything"),
        ({"chains": {"a": [{"configs": ["nope.yaml"]}]}}, "nope.yaml"),
        ({"chains": {"a/b": PHASES, "a b": PHASES}}, "must have different names, got task=a-b,phase=1,seed=0 twice"),
        ({"chains": {"a": [{**PHASES[0], "phase": ""}]}}, "text or a whole number, got ''"),
        ({"chains": {"a": [{**PHASES[0], "phase": True}]}}, "text or a whole number, got True"),
        (
            {"chains": {"a": [{**PHASES[0], "phase": "2"}, PHASES[1]]}},
            "The phases of a must have .* names, got 2, 2",
        ),
        ({"chains": {"a": PHASES * 3000}}, "at most 10,000 runs, got 12,000"),
        ({"mode": "best"}, "mode must be min or max, got best"),
        ({"mode": 3}, "mode must be a str"),
        ({"evaluation": {"episodes": 0}}, "from 1 to 100,000, alone, got {'episodes': 0}"),
        ({"evaluation": {"episodes": True}}, "episodes, from 1"),
        ({"evaluation": {"seed": 1}}, "episodes, from 1"),
        ({"evaluation": {"episodes": 1, "seed": 1}}, "episodes, from 1"),
        ({"evaluation": 3}, "evaluation must be a dict"),
    ],
)
def test_bad_files_are_one_sentence(write, done, tmp_path, changes, says):
    file = write(**changes)
    with pytest.raises(UsageError, match=says) as error:
        sweep(file, tmp_path / "out", jobs=2)
    assert str(error.value).endswith(".") and "\n" not in str(error.value) and not done.names


# ---- real runs -------------------------------------------------------------------------------------------------------


def real(folder, seeds):
    """A sweep of the small task's first two phases at debug size."""
    configs = [[str(CONFIGS / f"{name}.yaml") for name in (f"swingup_phase{i}", "debug")] for i in (1, 2)]
    planner = "model.init_args.planner.init_args"
    first = {"configs": configs[0], "arguments": {f"{planner}.horizon": 4}}
    starts = {**START, "data.init_args.initial_replay": "."}
    second = {"configs": configs[1], "arguments": {f"{planner}.decoder.init_args.horizon": 4}, "starts": starts}
    arguments = {"data.init_args.action_repeat": 50, "data.init_args.evaluation_episodes": 1}
    arguments |= {"trainer.accelerator": "cpu", "trainer.enable_model_summary": False}
    changes = {"grid": {"seed_everything": seeds}, "arguments": arguments, "chains": {"swingup": [first, second]}}
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
    return file


def start(file):
    return command(["sweep", str(file), "--out=out", "--jobs=1"], file.parent, start_new_session=True)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def finish(process):
    words = process.communicate(timeout=300)[0]
    return process.returncode, words


def without_times(path):
    return [row for row in table(path) if row["metric"] not in ("seconds", "val/seconds_per_decision")]


@pytest.mark.slow
def test_a_chain_that_was_killed_goes_on_bit_for_bit(tmp_path):
    """SIGTERM to the sweep in an evaluation, then a kill in the next phase; against one that never stopped."""
    file, out, straight = real(tmp_path, [0]), tmp_path / "out", tmp_path / "straight"
    code, words = finish(start(file))
    assert code == 0, words
    out.rename(straight)
    first, second = (out / name("swingup", i, 0) for i in (1, 2))

    process = start(file)
    wait_for(first / "evaluation/log.txt", process)
    process.send_signal(signal.SIGTERM)
    code, words = finish(process)
    assert code == 143 and "the same command resumes the sweep" in words
    assert not (first / "evaluation/returns.json").exists() and not (second / "version_0").exists()
    trained = (first / "version_0/checkpoints/last.ckpt").stat().st_mtime_ns

    process = start(file)
    wait_for(second / "version_0/checkpoints/last.ckpt", process)
    os.kill(int((second / "version_0/.lock").read_text().split()[-1]), signal.SIGKILL)
    code, words = finish(process)
    said = f"got 1 of 4 that failed or were cut off: {second}/log.txt ("
    assert code == 2 and said in words.strip().splitlines()[-1] and words.strip().endswith(").")
    evaluated = (first / "evaluation/returns.json").stat().st_mtime_ns

    code, words = finish(start(file))
    assert code == 0, words
    assert (first / "version_0/checkpoints/last.ckpt").stat().st_mtime_ns == trained
    assert (first / "evaluation/returns.json").stat().st_mtime_ns == evaluated
    for run in (first, second):
        assert_same_run(straight / run.name / "version_0", run / "version_0")
        best = [folder / run.name / "version_0/checkpoints/best.ckpt" for folder in (straight, out)]
        ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in best)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (straight / "returns.csv").read_bytes() == (out / "returns.csv").read_bytes()
    assert len(table(out / "returns.csv")) == 6
    assert without_times(straight / "curves.csv") == without_times(out / "curves.csv")


RAY = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from lit_dcem.cli.sweep import execution, sweep

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
file, out, noted = sys.argv[1:]


def execute(process, threads, limit):
    with open(noted, "a") as file:
        file.write(json.dumps([process.chain, process.name, ray.get_runtime_context().get_node_id()]) + "\\n")
    from lit_dcem.cli.sweep import execution

    return execution.execute(process, threads, limit)  # in a worker's process nothing is replaced


execution.execute = execute
try:
    sweep(file, out, "ray")
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_two_machines_of_a_ray_cluster_share_the_chains(tmp_path):
    """Two nodes of one core each: both work, each chain's phases are in order, and numbers are those of one machine."""
    pytest.importorskip("ray")
    file = real(tmp_path, [0, 1])
    noted = tmp_path / "noted"
    line = [sys.executable, "-c", RAY, str(file), str(tmp_path / "ray"), str(noted)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    noted = [json.loads(line) for line in noted.read_text().splitlines()]
    assert len(noted) == 8 and len({node for *_, node in noted}) == 2
    for seed in (0, 1):
        expected = chain("swingup", seed)
        assert [process for first, process, _ in noted if first == expected[0]] == expected
    code, words = finish(start(real(tmp_path, [0])))
    assert code == 0, words
    there = [row for row in table(tmp_path / "ray/returns.csv") if row["seed"] == "0"]
    assert table(tmp_path / "out/returns.csv") == there and len(there) == 6
