"""A sweep trains each point of its grid once, goes on after it was cut, and ends in a table."""

import csv
import fcntl
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pytest
import torch
import yaml

from lit_dcem.cli.sweep import checking, sweep
from lit_dcem.cli.sweep import execution as module
from lit_dcem.cli.sweep.backends import share_out
from lit_dcem.cli.sweep.grid import plan, read_sweep
from lit_dcem.cli.sweep.run import as_time
from lit_dcem.cli.sweep.tables import summary
from lit_dcem.errors import StoppedError, UsageError

CONFIGS = Path(__file__).parents[2] / "configs"
DECODER = "model.init_args.decoder.init_args"
SMALL = {f"{DECODER}.hidden_dim": 8, "trainer.max_epochs": 1, "trainer.limit_train_batches": 2}
LOOP: list = []  # YAML can write it
LOOP.append(LOOP)
GRID = {f"{DECODER}.latent_dim": [1, 2], "seed_everything": [0, 1]}


@pytest.fixture
def write(tmp_path):
    """Writes a sweep file beside its configs, with some entries changed."""
    (tmp_path / "a.yaml").write_text("trainer: {max_epochs: 3}")

    def write(**changes):
        arguments = {"trainer.max_epochs": 1}
        content = {"configs": ["a.yaml"], "metric": "val/cost", "grid": GRID, "arguments": arguments, **changes}
        (tmp_path / "s.yaml").write_text(
            yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False)
        )
        return tmp_path / "s.yaml"

    return write


def save(run, costs, **more):
    """What training would leave behind."""
    rows = [
        {"step": 5.0 * i, "seconds": 1.5 * i, "val/cost": cost, "val/other": i, "train/loss": 1.0}
        for i, cost in enumerate(costs, 1)
    ]
    run.last.parent.mkdir(parents=True, exist_ok=True)
    content = {"state_dict": {}, "global_step": 5 * len(costs), "callbacks": {"History": {"rows": rows}}, **more}
    torch.save(content, run.last)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training, and the check before it; holds what was trained. Runs whose name contains ``fail`` fail."""
    log, lock = [], threading.Lock()

    def execute(run, threads, limit):
        with lock:
            log.append((run.folder.name, threads, limit))
        (run.folder / "log.txt").write_text("the end\n")
        seed = run.columns.get("seed_everything", 0)
        save(run, [3.0 + seed, 1.0 + seed, 2.0])
        run.record("failed" if execute.fail in run.folder.name else execute.ends, commit="abc")
        return run

    execute.fail, execute.ends, execute.log = "nothing", "done", log
    monkeypatch.setattr(module, "execute", execute)
    monkeypatch.setattr(checking, "check_runs", lambda runs, metric: None)
    monkeypatch.setattr(checking, "check_runs", lambda runs, metric: None)
    return execute


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_finished_runs_are_not_trained_again(write, trained, tmp_path):
    path = sweep(write(), tmp_path / "out", jobs=2)
    names = [f"latent_dim={size},seed_everything={seed}" for size, seed in itertools.product((1, 2), (0, 1))]
    assert sorted(name for name, *_ in trained.log) == names
    whole = path.read_bytes()
    sweep(write(grid={**GRID, "seed_everything": [0, 1, 2]}), tmp_path / "out", jobs=2)
    assert sorted(name for name, *_ in trained.log[4:]) == [f"latent_dim={i},seed_everything=2" for i in (1, 2)]
    sweep(write(), tmp_path / "out", jobs=1)
    assert len(trained.log) == 6 and path.read_bytes() == whole


def test_tables_hold_every_run(write, trained, tmp_path, capsys):
    path = sweep(write(), tmp_path / "out", jobs=1)
    row = table(path)[1]
    expected = {"latent_dim": "1", "seed_everything": "1", "status": "done", "best": "2.0", "best_step": "10.0"}
    expected |= {"last": "2.0", "val/cost": "2.0", "val/other": "2", "steps": "15", "seconds": "4.5", "commit": "abc"}
    assert row == {**expected, "checkpoint": ""}
    curves = table(path.with_name("curves.csv"))
    assert len(curves) == 12 and curves[0].keys() >= {"latent_dim", "step", "seconds", "train/loss", "val/other"}
    printed = capsys.readouterr().out
    assert "latent_dim=2,seed_everything=1: done. the end" in printed
    assert "1.5" in printed and "± 6.4" in printed  # of 1 and 2: 12.706 * 0.7071 / sqrt(2)


def test_a_failure_does_not_stop_the_others(write, trained, tmp_path):
    trained.fail = "latent_dim=1,seed_everything=1"
    said = r"got 1 of 4 that failed: .*latent_dim=1,seed_everything=1/log.txt \(the end\)\.$"
    with pytest.raises(UsageError, match=said):
        sweep(write(), tmp_path / "out", jobs=2)
    assert [row["status"] for row in table(tmp_path / "out/results.csv")] == ["done", "failed", "done", "done"]
    trained.fail = "nothing"
    sweep(write(), tmp_path / "out", jobs=2)
    assert [name for name, *_ in trained.log[4:]] == ["latent_dim=1,seed_everything=1"]


@pytest.mark.parametrize("change", ["arguments", "configs"])
def test_other_settings_need_another_folder(write, trained, tmp_path, change):
    sweep(write(), tmp_path / "out", jobs=2)
    if change == "configs":
        (tmp_path / "a.yaml").write_text("trainer: {max_epochs: 4}")
    other = write(arguments={"trainer.max_epochs": 2}) if change == "arguments" else write()
    with pytest.raises(UsageError, match=f"^latent_dim=1,seed_everything=0 must .* got other {change}: .*--out"):
        sweep(other, tmp_path / "out", jobs=2)
    sweep(other, tmp_path / "other", jobs=2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": [1]}, "got seeds missing or unknown"),
        ({"metric": None}, "got metric missing or unknown"),
        ({"metric": 3}, "metric must be a str"),
        ({"configs": []}, "configs must be a list that is not empty"),
        ({"configs": ["nope.yaml"]}, "nope.yaml"),
        ({"grid": {}}, "grid must be a dict that is not empty"),
        ({"grid": {"a": []}}, r"got a: \[\]"),
        ({"grid": {"a": 1}}, "got a: 1"),
        ({"grid": {"trainer.max_epochs": [1]}}, "not among the arguments"),
        ({"grid": {"a": [0, 0]}}, "got a=0 twice"),
        ({"grid": {1: [0]}}, "named by text, got 1"),
        ({"grid": {"a": ["x" * 300]}}, "at most 255 bytes"),
        ({"grid": {name: list(range(100)) for name in "abcdef"}}, "at most 10,000 runs, got 1,000,000,000,000"),
        ({"grid": {"a": ["\0"]}}, "plain values, got others for a"),
        ({"grid": {"a": [{(1, 2): 3}]}}, "YAML"),
        ({"grid": {"a": [LOOP]}}, "plain values, got others for a"),
        ({"arguments": {2: 3}}, "named by text, got 2"),
        ({"metric": "val/cots"}, "must be one of val/cost, val/other, got val/cots"),
    ],
)
def test_bad_files_are_one_sentence(write, trained, tmp_path, changes, says):
    with pytest.raises(UsageError, match=says) as error:
        sweep(write(**changes), tmp_path / "out", jobs=2)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"backend": "dask"}, "got dask"), ({"jobs": 0}, "at least 1"), ({"budget": 0.1}, "got 0.1 min")],
)
def test_bad_options_are_one_sentence(write, trained, tmp_path, options, says):
    with pytest.raises(UsageError, match=says):
        sweep(write(), tmp_path / "out", **options)
    assert not trained.log


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"a: [", "expected the node content"),
        ("metric: val/cost".encode("utf-16"), "it is not text in UTF-8"),
        (bytes(range(256)), "it is not text in UTF-8"),
        (bytes(100), "special characters are not allowed"),
        (b"[" * 5000, "it is nested too deeply"),
        (b"a: 2020-13-45", "month must be in 1..12"),
    ],
)
def test_files_that_are_no_yaml_are_refused(write, tmp_path, content, says):
    """Neither as a sweep nor as one of its configs."""
    if content is not None:
        (tmp_path / "bad.yaml").write_bytes(content)
    for use in (lambda path: read_sweep(path), lambda path: plan(read_sweep(write(configs=[path.name])), tmp_path)):
        with pytest.raises(UsageError, match=re.escape(says)) as error:
            use(tmp_path / "bad.yaml")
        assert "bad.yaml" in str(error.value) and "\n" not in str(error.value)


def test_the_folder_must_be_writable_before_anything_is_trained(write, trained, tmp_path):
    (tmp_path / "file").touch()
    for out, says in ((tmp_path / "file", "--out must be a folder"), (tmp_path / "file/out", "Not a directory")):
        with pytest.raises(UsageError, match=says):
            sweep(write(), out)
    assert not trained.log


def test_more_jobs_than_runs_need_no_more_threads(write, trained, tmp_path, monkeypatch):
    asked, parallel = [], joblib.Parallel
    monkeypatch.setattr(joblib, "Parallel", lambda jobs, **options: asked.append(jobs) or parallel(jobs, **options))
    sweep(write(), tmp_path / "out", jobs=10**9)
    assert asked == [4]


def test_ray_must_be_installed(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'ray\[default\]'"):
        sweep(write(), backend="ray")


@pytest.mark.parametrize(
    ("budget", "jobs", "runs", "limit"),
    [
        (None, 2, 4, None),
        (60, 2, 0, None),
        (60, 2, 4, "00:00:29:45"),
        (60, 2, 5, "00:00:19:45"),  # three rounds, not 2.5
        (60, 8, 2, "00:00:59:45"),
        (60 * 50, 1, 1, "02:01:59:45"),
    ],
)
def test_budget_is_shared_out(budget, jobs, runs, limit):
    share = share_out(budget, jobs, runs)
    assert (None if share is None else as_time(share)) == limit


def test_names_are_short_unless_they_collide(write, tmp_path):
    runs = plan(read_sweep(write(grid={"a.x": [1.0], "b.x": ["c/d e"]})), tmp_path)
    assert [run.folder.name for run in runs] == ["a.x=1.0,b.x=c-d-e"]
    assert "--b.x=c/d e" in runs[0].options


@pytest.mark.parametrize("column", ["best", "status", "steps", "checkpoint", "value"])
def test_an_option_with_the_name_of_a_column_has_a_column_of_its_own(write, column):
    option = f"model.loss.{column}"
    assert read_sweep(write(grid={option: [0.5], "seed_everything": [0]})).columns()[option] == option


def test_summary_leaves_failures_out(write):
    rows = [{"a": 1, "seed_everything": i, "status": s, "best": 1.0 * i} for i, s in enumerate(("done", "failed"))]
    shown = summary(rows, read_sweep(write()))
    assert [list(column.cells) for column in shown.columns] == [["1"], ["1"], ["0"], ["-"]]


@pytest.fixture
def run(write, tmp_path):
    module.STOP.clear()  # of a sweep that was stopped before
    return plan(read_sweep(write()), tmp_path / "out")[0]


def test_resumes_from_a_whole_checkpoint_only(run, monkeypatch):
    """A damaged one is thrown away; a stopped run stays to be trained."""
    commands = []
    monkeypatch.setattr(module, "_call", lambda command, *_, **__: commands.append(command))
    run.record("waiting")
    save(run, [1.0])
    module.execute(run, 1, 30.0)
    assert commands[0][-2:] == ["--trainer.max_time=00:00:00:30", f"--ckpt_path={run.last}"]
    run.last.write_bytes(run.last.read_bytes()[:100])
    module.execute(run, 1, None)
    assert not any("ckpt_path" in option for option in commands[1]) and not run.last.exists()
    assert run.recorded()["status"] == "running"


@pytest.mark.parametrize(
    ("code", "says", "status"),
    [
        (0, "done", "done"),
        (0, "out of time", "out of time"),
        (0, None, "cut off"),  # Lightning ends like this on SIGTERM
        (0, "nonsense", "cut off"),
        (1, None, "failed"),
        (2, None, "failed"),
        (1, "done", "failed"),  # in what comes after training
        (130, None, "cut off"),
        (143, None, "cut off"),
        (-9, None, "cut off"),
    ],
)
def test_a_run_ends_as_it_says_itself(run, monkeypatch, code, says, status):
    """Neither its exit code nor its last checkpoint is enough."""

    def call(command, *_, **options):
        assert not run.ending.exists()  # what an earlier try said
        save(run, [1.0])
        if says is not None:
            run.ending.write_text(json.dumps({"status": says}))
        return code

    monkeypatch.setattr(module, "_call", call)
    run.record("waiting")
    run.ending.write_text('{"status": "done"}')
    assert module.execute(run, 1, 30.0).recorded()["status"] == status


@pytest.mark.parametrize(("limit", "status"), [(None, "done"), (100.0, "done"), (30.0, "out of time")])
@pytest.mark.parametrize("place", ["configs", "arguments", "grid"])
def test_a_run_that_its_own_max_time_ends_is_done(write, tmp_path, monkeypatch, place, limit, status):
    """It is not resumed by the next sweep, and a longer share of the budget gives it no more time."""
    if place == "configs":
        (tmp_path / "a.yaml").write_text("trainer: {max_time: {minutes: 1}}")
    more = (
        {}
        if place == "configs"
        else {place: {"trainer.max_time": ["00:00:01:00"] if place == "grid" else "00:00:01:00"}}
    )
    (run,) = plan(read_sweep(write(**{"grid": {"seed_everything": [0]}, **more})), tmp_path / "out")
    commands = []

    def call(command, *_, **__):
        commands.append(command)
        save(run, [1.0])
        run.ending.write_text('{"status": "out of time"}')
        return 0

    monkeypatch.setattr(module, "_call", call)
    monkeypatch.setattr(module, "STOP", threading.Event())
    run.record("waiting")
    assert module.execute(run, 1, limit).recorded()["status"] == status
    assert ("--trainer.max_time=00:00:00:30" in commands[0]) == (limit == 30.0)


def test_a_run_without_a_checkpoint_failed(run, monkeypatch):
    monkeypatch.setattr(module, "_call", lambda *_, **__: run.ending.write_text('{"status": "done"}') and 0)
    run.record("waiting")
    assert module.execute(run, 1, None).recorded()["status"] == "failed"


def test_a_run_that_was_cut_off_is_trained_again(write, trained, tmp_path):
    trained.ends = "cut off"
    with pytest.raises(UsageError, match=r"got 4 of 4 that failed or were cut off: \S+log.txt \(the end\), "):
        sweep(write(), tmp_path / "out", jobs=2)
    assert [row["status"] for row in table(tmp_path / "out/results.csv")] == ["cut off"] * 4
    trained.ends = "done"
    assert {row["status"] for row in table(sweep(write(), tmp_path / "out", jobs=2))} == {"done"}
    assert len(trained.log) == 8


def test_runs_that_are_at_work_are_refused(write, trained, tmp_path):
    """Of another sweep, or of one that was killed; what is recorded of them stays."""
    run = plan(read_sweep(write()), tmp_path / "out")[2]
    run.record("running")
    with run.log.open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=r"got one that trains .*latent_dim=2,seed_everything=0\.$"):
            sweep(write(), tmp_path / "out", jobs=2)
    assert not trained.log and run.recorded()["status"] == "running"
    sweep(write(), tmp_path / "out", jobs=2)


def test_an_interrupt_ends_the_processes(write, tmp_path, monkeypatch):
    """What is at work is stopped, nothing else starts, and all of it is still to do."""
    call = module._call

    def sleep(command, *_, **options):
        threading.Timer(0.5, module.STOP.set).start()
        return call([sys.executable, "-c", "import time; time.sleep(60)"], **options)

    monkeypatch.setattr(module, "_call", sleep)
    monkeypatch.setattr(checking, "check_runs", lambda runs, metric: None)
    with pytest.raises(StoppedError, match="the same command resumes the sweep"):
        sweep(write(), tmp_path / "out", jobs=2)
    recorded = [json.loads(path.read_text())["status"] for path in sorted((tmp_path / "out").glob("*/result.json"))]
    assert sorted(recorded) == ["running", "running", "waiting", "waiting"]


def test_configs_are_beside_the_sweep_file_or_shipped(write, tmp_path):
    (tmp_path / "debug.yaml").write_text("trainer: {max_epochs: 3}")
    ((phase,),) = read_sweep(write(configs=["cartpole", "phase1.yaml", "debug.yaml", "unknown"])).chains
    assert phase.configs == [
        CONFIGS / "cartpole.yaml",
        CONFIGS / "phase1.yaml",
        *(tmp_path / name for name in ("debug.yaml", "unknown")),
    ]


def test_shipped_sweeps_have_their_runs(tmp_path):
    assert len(plan(read_sweep(CONFIGS / "sweep_cartpole.yaml"), tmp_path / "a")) == 27
    assert len(plan(read_sweep(CONFIGS / "sweep_cartpole_gradient.yaml"), tmp_path / "b")) == 192
    assert len(plan(read_sweep(CONFIGS / "sweep_cartpole_dcem.yaml"), tmp_path / "c")) == 36


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_a_signal_to_a_run_cuts_it_off(write, tmp_path, monkeypatch, name):
    """The process of a run is told to stop after its first checkpoint; trained again, it comes to its end."""
    configs = [str(CONFIGS / "regression.yaml"), str(CONFIGS / "debug.yaml")]
    arguments = {"trainer.max_epochs": 3, "trainer.limit_train_batches": 60, "trainer.accelerator": "cpu"}
    grid = {"model.init_args.energy.init_args.hidden_dim": [8]}
    (run,) = plan(read_sweep(write(configs=configs, grid=grid, arguments=arguments)), tmp_path / "out")
    start = subprocess.Popen

    def stop(process):
        while not run.last.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))

    def begin(command, **options):
        process = start(command, **options)
        if "fit" in command:
            threading.Thread(target=stop, args=(process,)).start()
        return process

    module.STOP.clear()
    run.record("waiting")
    monkeypatch.setattr(module.subprocess, "Popen", begin)
    assert module.execute(run, 1, None).recorded()["status"] != "done", run.log.read_text()
    monkeypatch.setattr(module.subprocess, "Popen", start)
    assert module.execute(run, 1, None).recorded()["status"] == "done", run.log.read_text()
    assert run.checkpoint().content["epoch"] == 3  # all of them are done


def small(write, **changes):
    configs = [str(CONFIGS / "cartpole.yaml"), str(CONFIGS / "debug.yaml")]
    grid = {f"{DECODER}.latent_dim": [1, 2]}
    return write(configs=configs, grid=grid, arguments={**SMALL, "trainer.accelerator": "cpu", **changes})


def test_trains_and_goes_on_in_place(write, tmp_path):
    """Two real runs; then one as a kill just before the end of the other leaves it."""
    path = sweep(small(write), tmp_path / "out", jobs=2)
    first = table(path)
    assert [(row["latent_dim"], row["status"], row["steps"]) for row in first] == [
        ("1", "done", "2"),
        ("2", "done", "2"),
    ]
    assert all((path.parent / row["checkpoint"]).is_file() for row in first)
    plan(read_sweep(small(write)), tmp_path / "out")[0].record("running")
    assert table(sweep(small(write), tmp_path / "out", jobs=1))[0]["best"] == first[0]["best"]
    assert [each.name for each in (tmp_path / "out/latent_dim=1").glob("version_*")] == ["version_0"]


@pytest.mark.slow
def test_a_run_ended_by_its_own_max_time_is_not_trained_again(write, tmp_path):
    """A real run of a shipped config, with more epochs than there is time for."""
    file = small(write, **{"trainer.max_epochs": 10_000, "trainer.max_time": "00:00:00:02"})
    (first, second) = table(sweep(file, tmp_path / "out", jobs=2))
    assert first["status"] == second["status"] == "done" and int(first["steps"]) < 20_000
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.ckpt")}
    sweep(file, tmp_path / "out", jobs=2)
    assert before and {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.ckpt")} == before


@pytest.mark.slow
def test_ray_trains_the_same(write, tmp_path):
    """In a process of its own, as Ray leaves threads and files behind."""
    pytest.importorskip("ray")
    code = f"from lit_dcem.cli.sweep import sweep; sweep({str(small(write))!r}, {str(tmp_path / 'ray')!r}, 'ray', 2)"
    subprocess.run([sys.executable, "-c", code], check=True)
    here, there = (
        table(path) for path in (sweep(small(write), tmp_path / "out", jobs=2), tmp_path / "ray/results.csv")
    )
    assert [row["best"] for row in here] == [row["best"] for row in there]
