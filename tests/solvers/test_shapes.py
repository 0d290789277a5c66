"""What the solvers accept and return: shapes as annotated, and one sentence for shapes and options that do not fit."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_dcem import DCEM, UnrolledGD, dcem, unrolled_gd

START = (torch.zeros(3, 2), torch.ones(3, 2))
OPTIONS = {"num_candidates": 30, "num_elites": 5, "num_iterations": 4}
RUN_EACH_SOLVER = """
from jaxtyping import install_import_hook

install_import_hook("lit_dcem", "beartype.beartype")

import torch
from lit_dcem import DCEM, LML, Minimizer, UnrolledGD, cem, dcem, icem, lml, minimize, mppi, unrolled_gd
from lit_dcem.solvers.distributions import Categorical, Gaussian
from lit_dcem.solvers.iteration import evaluate
from lit_dcem.solvers.noise import Coloured, Spline

def objective(candidates):
    return candidates.square().sum(-1)

mean, std = torch.zeros(3, 4), torch.ones(3, 4)
options = dict(num_candidates=[9, 8], num_elites=3, num_iterations=2, trace=True, lower=-torch.ones(4), upper=1.0)
iced = dict(num_kept=2, warm_start=torch.zeros(3, 1, 4), momentum=0.1, noise_exponent=1.0, horizon=2)
lml(torch.randn(2, 3, 5), 2), lml(torch.randn(5), 5, torch.tensor(0.1)), LML(2)(torch.randn(3, 5))
cem(objective, mean, std, **options)
dcem(objective, mean.requires_grad_(), std, checkpoint=True, grad_iterations=2, **options, **iced).mean.sum().backward()
DCEM(**options)(objective, mean, 0.5)
dcem(objective, mean, torch.tensor(0.5), lower=[-1.0] * 4, upper=torch.ones(4).numpy(), temperature=torch.ones(3, 1))
dcem(lambda x: objective(x) + torch.tensor([[0.0], [torch.nan], [0.0]]), mean, std, **options)
minimize(objective, mean, distribution=Categorical(2, temperature=0.5), noise=Spline(2, 4), tolerance=0.1, trace=True)
minimize(objective, torch.zeros(4), noise=Coloured(1.0, 4), generator=[torch.Generator()], maximize=True)
minimize(objective, torch.zeros(2, 3, 4), 0.1, lower=-torch.ones(2, 3, 4), distribution=Gaussian(0.1, 0.1), trace=True)
Minimizer(num_candidates=[19, 18], num_iterations=2)(objective, mean), mppi(torch.tensor(0.5))(objective, mean)
icem(horizon=2, noise_exponent=1.0)(objective, mean).at_bound, minimize(objective, mean).has_collapsed
unrolled_gd(objective, mean, lower=[-1.0] * 4)
unrolled_gd(objective, mean, num_steps=2, trace=True).mean.sum().backward()
UnrolledGD()(objective, mean)
try:
    evaluate(objective, mean)
except Exception as error:
    assert "candidates" in str(error), error
else:
    raise SystemExit("nothing checks the shapes")
"""


def test_every_solver_keeps_to_its_annotated_shapes() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", RUN_EACH_SOLVER]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_elites": 31}, "num_elites must be at most num_candidates, got 31 and 30"),
        ({"num_elites": 0}, "num_elites must be at least 1, got 0"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        (
            {"num_candidates": [30, 30]},
            "num_candidates must be one number, or one for .* got 2 numbers and 4 iterations",
        ),
        ({"num_candidates": [30, 30, 30, 4]}, "num_elites must be at most num_candidates, got 5 and 4"),
        ({"temperature": -1.0}, r"temperature must be at least 0 and finite, got -1\.0"),
        ({"temperature": math.nan}, "temperature must be at least 0 and finite, got nan"),
        ({"lower": 1.0, "upper": -1.0}, r"lower must be below upper, got 1\.0 and -1\.0"),
        ({"min_std": -0.5}, r"min_std must be at least 0 and finite, got -0\.5"),
        ({"momentum": 1.0}, r"momentum must be at least 0 and below 1, got 1\.0"),
        ({"num_kept": 30}, "num_kept must be at least 0 and below num_candidates, got 30 and 30"),
        ({"num_kept": -1}, "num_kept must be at least 0 and below num_candidates, got -1 and 30"),
        ({"noise_exponent": -1.0, "horizon": 2}, r"noise_exponent must be at least 0, got -1\.0"),
        ({"noise_exponent": math.inf, "horizon": 2}, "noise_exponent must be finite, got inf"),
        ({"noise_exponent": 1.0}, r"noise_exponent needs a horizon above 1, got noise_exponent 1\.0 and horizon 1"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"grad_iterations": 5}, "grad_iterations must be between 1 and num_iterations, got 5 and 4"),
        ({"grad_iterations": 0}, "grad_iterations must be between 1 and num_iterations, got 0 and 4"),
    ],
)
def test_options_out_of_range_raise_one_sentence(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}\.$") as called:
        dcem(lambda x: x.sum(-1), *START, **{**OPTIONS, **options})
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        DCEM(**{**OPTIONS, **options})
    assert ". " not in str(called.value)


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        ((START[0][0, 0], START[1][0, 0]), {}, r"mean must be floating point \[\*batch, D\], got torch\.float32 \[\]"),
        ((START[0].numpy(), START[1]), {}, r"mean must be floating point \[\*batch, D\], got ndarray"),
        ((START[0].long(), START[1]), {}, r"mean must be floating point \[\*batch, D\], got torch\.int64 \[3, 2\]"),
        ((START[0], START[1][:1]), {}, r"std must have the shape of mean, got \(1, 2\) and \(3, 2\)"),
        (START, {"horizon": 4}, "horizon must divide the dimension of the problem, got 4 and 2"),
        (START, {"warm_start": torch.zeros(3, 30, 2)}, r"warm_start must be \[B, M, D\] .*, got \[3, 30, 2\]"),
        (START, {"warm_start": [[0.0]]}, r"warm_start must be \[B, M, D\] .*, got list"),
        (START, {"warm_start": torch.zeros(3, 2)}, r"warm_start must be \[B, M, D\] .*, got \[3, 2\]"),
    ],
)
def test_shapes_that_do_not_fit_raise_one_sentence(start: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        dcem(lambda x: x.sum(-1), *start, **OPTIONS, **options)


def test_an_objective_of_the_wrong_shape_raises() -> None:
    with pytest.raises(ValueError, match=r"^objective must return one value per candidate, got \[3\] for .*\.$"):
        dcem(lambda x: x.sum((1, 2)), *START, **OPTIONS)
    with pytest.raises(ValueError, match=r"^objective must return one value per candidate, got float for .*\.$"):
        dcem(lambda x: 1.0, *START, **OPTIONS)


def test_unknown_options_raise() -> None:
    with pytest.raises(TypeError, match=r"^DCEM\.__init__\(\) got an unexpected keyword argument 'num_samples'"):
        DCEM(num_samples=10)
    with pytest.raises(TypeError, match="num_samples"):
        DCEM().replace(num_samples=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": -1}, "num_steps must be at least 0, got -1"),
        ({"lr": 0.0}, r"lr must be positive and finite, got 0\.0"),
        ({"lr": math.inf}, "lr must be positive and finite, got inf"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
    ],
)
def test_steps_out_of_range_raise_one_sentence(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        unrolled_gd(lambda x: x.sum(-1), START[0], **options)
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        UnrolledGD(**options)


def test_shapes_that_do_not_fit_gradient_descent_raise_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^initial must be \[B, D\], got \[2\]\.$"):
        unrolled_gd(lambda x: x.sum(-1), torch.zeros(2))
    with pytest.raises(ValueError, match=r"^initial must be floating point, got torch\.int64\.$"):
        unrolled_gd(lambda x: x.sum(-1), START[0].long())
    with pytest.raises(ValueError, match=r"^objective must return one value per candidate, got \[3\] for .*\.$"):
        unrolled_gd(lambda x: x.sum((1, 2)), START[0])
