"""Messages of others, as the command line would print them, become one sentence of ours."""

import pytest
import torch

from lit_dcem.cli.main import main
from lit_dcem.errors import memory_error
from lit_dcem.files.shipped import shipped
from lit_dcem.training.messages import one_sentence

UNION = "Does not validate against any of the Union subtypes"
NONE = "- Expected a <class 'NoneType'>"
FIT = ["fit", "--config", str(shipped("configs") / "regression.yaml")]
SOLVER = "--model.init_args.solver"


def nested(key, inner, name, value):
    """What jsonargparse makes of an error within an error."""
    given = f"Given value: NestedArg(key={name!r}, val={value!r})"
    return f'Parser key "{key}":\n  {UNION}\n  Subtypes: [...]\n  Errors:\n    - {inner}\n    {NONE}\n  {given}'


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            f'Parser key "temperature":\n\n  - Expected a path but nan either not accessible or invalid\n  - {UNION}\n'
            "  Subtypes: [<class 'float'>, <class 'torch.Tensor'>]\n  Errors:\n    - Expected a <class 'float'>\n"
            "    - Expected a dot import path string: nan\n  Given value type: <class 'str'>\n  Given value: nan",
            "temperature must be a number, got nan.",
        ),
        (
            nested("model", "temperature must be a number, got nan.", "solver.init_args.temperature", "nan"),
            "model.solver.temperature must be a number, got nan.",
        ),
        (
            nested("model", "temperature must be at least 0, got -1.", "solver.init_args.temperature", "-1"),
            "model.solver.temperature must be at least 0, got -1.",
        ),
        (
            nested("model", "Options must be known, got lrr.", "optimizer.init_args.lrr", "1"),
            "Options must be known, got model.optimizer.lrr.",
        ),
        (
            nested(
                "model",
                "Type Callable expects a function or a callable class: No module named 'x'. Got value: "
                "Namespace(class_path='x.Y', init_args=Namespace(lr=0.1, eps=1e-08))",
                "optimizer",
                "Namespace(class_path='x.Y', init_args=Namespace(lr=0.1, eps=1e-08))",
            ),
            "model.optimizer must be a class or function that fits, got x.Y (No module named 'x').",
        ),
        (
            f"{UNION}\nSubtypes: [...]\nErrors:\n  - {UNION}\n    Subtypes: [...]\n    Errors:\n"
            "      - temperature must be at least 0 and finite, got -1.0.\n"
            "      - Import path lit_dcem.DCEM does not correspond to a subclass of UnrolledGD\n"
            "    Given value: Namespace(class_path='lit_dcem.DCEM', init_args=Namespace(temperature=-1.0))\n"
            f"  {NONE}\nGiven value: Namespace(class_path='lit_dcem.EnergyRegression')",
            "temperature must be at least 0 and finite, got -1.0.",
        ),
        (
            f'Parser key "module":\n  {UNION}\n  Errors:\n'
            "    - Problem with given class_path 'lit_dcem.EnergyRegression':\n        Parser key \"solver\":\n\n"
            f"          - Expected a path but abc either not accessible or invalid\n          - {UNION}\n"
            "          Errors:\n            - Expected a dot import path string: abc\n          Given value: abc\n"
            f"    {NONE}\n  Given value: {{'class_path': 'lit_dcem.EnergyRegression'}}",
            "solver must be a known class, or its path like package.Class, got abc.",
        ),
        (
            f"Parser key \"num_candidates\":\n  {UNION}\n  Errors:\n    - Expected a <class 'int'>\n"
            "    - Expected a <class 'collections.abc.Sequence'>\n  Given value type: <class 'str'>\n  Given value: x",
            "num_candidates must be an integer or a list, got x.",
        ),
        (
            f"Parser key \"num_candidates\":\n  {UNION}\n  Errors:\n    - Expected a <class 'int'>\n"
            "    - Expected a <class 'int'>. Got value: x\n  Given value: [1, 'x']",
            "num_candidates must be an integer, got x.",
        ),
        (
            nested(
                "model",
                "Problem with given class_path 'mine.Mine':\n        No module named 'nonexistent_dep'",
                "class_path",
                "mine.Mine",
            ),
            "model must be a class that can be imported and built, got mine.Mine (No module named 'nonexistent_dep').",
        ),
        (
            nested(
                "solver", "Import path os.system does not correspond to a subclass of DCEM", "class_path", "os.system"
            ),
            "solver must be a DCEM, got os.system.",
        ),
        (
            f'Parser key "planner":\n\n  - Expected a path but torch.nn.Flatten either not accessible or invalid\n'
            f"  - {UNION}\n  Errors:\n    - Import path does not correspond to a subclass of CartpolePlanner\n"
            f"    - Import path does not correspond to a subclass of ModelPlanner\n    {NONE}\n"
            "  Given value type: <class 'str'>\n  Given value: torch.nn.Flatten",
            "planner must be a CartpolePlanner, got torch.nn.Flatten.",
        ),
        (
            f'Parser key "planner":\n  {UNION}\n  Errors:\n    - Expected an instantiatable class, but is abstract\n'
            f"    {NONE}\n  Given value: lit_dcem.cartpole.planners.CartpolePlanner",
            "planner must be a class that is not abstract, got lit_dcem.cartpole.planners.CartpolePlanner.",
        ),
        (
            nested("model", "Expected a dot import path string: DCEMM", "solver", "DCEMM"),
            "model.solver must be a known class, or its path like package.Class, got DCEMM.",
        ),
        (
            'Parser key "optimizer":\n\n  - Expected a path but torch.optim.Nope either not accessible or invalid\n'
            "  - Type typing.Callable[[Iterable], Optimizer] expects a function or a callable class: "
            "module 'torch.optim' has no attribute 'Nope'. Got value: torch.optim.Nope",
            "optimizer must be a class or function that fits, got torch.optim.Nope "
            "(module 'torch.optim' has no attribute 'Nope').",
        ),
        (
            f'Parser key "trainer.logger":\n\n  - Expected a path but Foo either not accessible or invalid\n'
            f"  - {UNION}\n  Errors:\n    - Expected a dot import path string: Foo\n"
            "    - Expected a <class 'collections.abc.Iterable'>\n"
            f"    - Expected a <class 'bool'>\n    {NONE}\n  Given value: Foo",
            "trainer.logger must be a known class, or its path like package.Class, got Foo.",
        ),
        (
            f"Parser key \"trainer.max_epochs\":\n  {UNION}\n  Errors:\n    - Expected a <class 'int'>\n    {NONE}\n"
            "  Given value type: <class 'str'>\n  Given value: x",
            "trainer.max_epochs must be an integer, got x.",
        ),
        (
            "Parser key \"precision\":\n  Expected a typing.Literal['float32', 'bfloat16']. Got value: float8",
            "precision must be float32 or bfloat16, got float8.",
        ),
        (
            'Parser key "betas":\n  Expected a tuple with 2 elements. Got value: [1]',
            "betas must be a list of 2 values, got [1].",
        ),
        (
            "Parser key \"keep_plans\":\n  Expected a <class 'bool'>. Got value: x",
            "keep_plans must be true or false, got x.",
        ),
        (
            "Parser key \"config\": File does not exist: '/tmp/nope.yaml'",
            "config must be an existing file, got /tmp/nope.yaml.",
        ),
        ("Parser key \"config\": Path is not a file: '/tmp/.'", "config must be an existing file, got /tmp/."),
        (
            'Problems parsing config: while parsing a flow sequence\n  in "<unicode string>", line 1, column 4\n'
            "did not find",
            "A config must be YAML, got a text that is not: while parsing a flow sequence in "
            '"<unicode string>", line 1, column 4 did not find.',
        ),
        ("Unexpected config: - 1\n", "A config must map options to values, got - 1."),
        ("Subcommand 'fit' does not accept option 'foo'", "Options must be known, got foo for fit."),
        ("the following arguments are required: fit.model", "fit needs a model: type --config FILE, got none."),
        ("the following arguments are required: solver, energy", "solver, energy must be given, got none."),
        ("unrecognized arguments: --trainer.max_epoch=1", "Every argument must be known, got --trainer.max_epoch=1."),
        ("argument -c/--config: expected one argument", "--config must have a value, got none."),
        ("argument --jobs: invalid int value: 'x'", "--jobs must be an integer, got x."),
        (
            "argument --backend: invalid choice: 'k8s' (choose from 'joblib', 'ray')",
            "--backend must be one of 'joblib', 'ray', got k8s.",
        ),
        ("RSSM.__init__() got an unexpected keyword argument 'nope'", "Options must be known, got nope for RSSM."),
        (
            "WorldModel.__init__() missing 1 required positional argument: 'rssm'",
            "'rssm' must be given to WorldModel, got none.",
        ),
        (
            "'<=' not supported between instances of 'int' and 'NoneType'",
            "Settings must be of the right type, got int and NoneType.",
        ),
        ("-1 is not in bounds, numpy accepts from 0 to 4294967295", "A seed must be between 0 and 4294967295, got -1."),
        (
            "'utf-8' codec can't decode byte 0x80 in position 128: invalid start byte",
            "A config must be text in UTF-8, got byte 0x80 at 128.",
        ),
        (
            "You selected an invalid accelerator name: `accelerator='abacus'`. Available names are: auto, cpu.",
            "accelerator must be one of auto, cpu, got abacus.",
        ),
        (
            "num_elites must be at most num_candidates, got 300 and 100.",
            "num_elites must be at most num_candidates, got 300 and 100.",
        ),
        ("File not found", "File not found."),
        ("robot disconnected:\n  at joint 3\n\nposition 4.1\n", "robot disconnected: at joint 3 position 4.1."),
        ("", "Something is missing."),
    ],
)
def test_each_kind_of_message_is_one_sentence(message, sentence):
    assert one_sentence(message) == sentence
    assert one_sentence(sentence) == sentence  # errors within errors have been through it already


def test_a_device_that_is_not_there_is_named():
    sentence = "accelerator must be one that this machine has, got gpu."
    assert one_sentence("No supported gpu backend found!.") == sentence


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (f"{SOLVER}.init_args.temperature=nan", "model.solver.temperature must be a number, got nan."),
        (f"{SOLVER}.init_args.num_candidates=[1,x]", "model.solver.num_candidates must be an integer, got x."),
        (f"{SOLVER}=DCEMM", "model.solver must be a known class, or its path like package.Class, got DCEMM."),
        ("--model.init_args.optimizer.init_args.lrr=1", "Options must be known, got model.optimizer.lrr."),
        ("--model.class_path=lit_dcem.RegressionData", "model must be a LightningModule, got lit_dcem.RegressionData."),
        ("--data.init_args.batch_size=1.5", "data.batch_size must be an integer, got 1.5."),
        ("--trainer.devices=0", "devices must be a number of devices from 1 on, got 0."),
        ("--trainer.accelerator=mps", "accelerator must be one that this machine has, 'cpu', got MPS."),
    ],
)
def test_the_command_says_what_to_mend(tmp_path, monkeypatch, capsys, option, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main([*FIT, option])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"lit-dcem: {sentence}"


@pytest.mark.parametrize(
    ("typed", "got"),
    [
        (["--config", "finetune_dcem"], f"{shipped('configs') / 'finetune_dcem.yaml'} as the first"),
        (["--model.num_beliefs=3"], "none"),
    ],
)
def test_options_without_a_class_need_a_config_before_them(tmp_path, monkeypatch, capsys, typed, got):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *typed])
    rule = "The options of a model need a config before them that names its class, such as --config phase2"
    assert exit_.value.code == 2 and capsys.readouterr().err == f"lit-dcem: {rule}, got {got}.\n"


def test_a_run_is_not_resumed_for_fewer_epochs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = [*FIT, "--config", str(shipped("configs") / "debug.yaml")]
    main([*fit, "--trainer.max_epochs=2"])
    with pytest.raises(SystemExit):
        main([*fit, "--trainer.max_epochs=1", "--ckpt_path=last"])
    rule = "max_epochs must be at least 2, the epochs that the run has trained for"
    assert f"{rule}, got 1." in capsys.readouterr().err


def test_the_reason_why_a_class_of_ones_own_cannot_be_imported_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(SystemExit):
        main([*FIT, "--model.class_path=needs_more.Mine"])
    assert "got needs_more.Mine (No module named 'not_installed_anywhere')." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "got"),
    [
        (RuntimeError("can't allocate memory: you tried to allocate 4294967296 bytes."), "4.0 GiB"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ..."), "20.00 GiB"),
        (MemoryError(), None),
    ],
)
def test_memory_that_ran_out_is_told_with_the_size(error, got):
    said = str(memory_error(error))
    assert said.endswith(f", got a tensor of {got}." if got else ", got some that do not.")
