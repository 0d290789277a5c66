"""The solvers need torch and jaxtyping alone: not NumPy, and nothing of what the experiments need."""

import subprocess
import sys

ALONE = """
import sys

ALLOWED = {
    *sys.stdlib_module_names, "lit_dcem", "torch", "jaxtyping", "wadler_lindig",
    # what torch imports, and how a checkout is installed
    "torchgen", "functorch", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec",
    "filelock",
}


class Alone:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ALLOWED:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Alone, sys.meta_path)

import torch
from lit_dcem import DCEM, Search, UnrolledGD, cem, dcem, icem, lml, minimize, mppi, unrolled_gd

target = torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64, requires_grad=True)
start = torch.zeros_like(target)


def bowl(points):
    return (points - target.unsqueeze(1)).square().sum(-1)


def check(answer, differentiable=True):
    torch.testing.assert_close(answer, target, rtol=0, atol=1e-2, check_dtype=True)
    assert answer.requires_grad == differentiable
    if differentiable:
        gradient, = torch.autograd.grad(answer.sum(), target)
        assert gradient.isfinite().all() and (gradient > 0).all()


torch.manual_seed(0)
options = {"num_candidates": 200, "num_iterations": 30, "lower": [-3.0, -3.0], "upper": 3.0}
check(dcem(bowl, start, 1.0, **options).mean)
check(cem(bowl, start, 1.0, **options).mean, differentiable=False)
check(minimize(bowl, start, **options).mean)
assert mppi(0.1, **options)(bowl, start).mean.requires_grad
check(icem(**options)(bowl, start).mean, differentiable=False)
check(unrolled_gd(bowl, start, num_steps=40, lr=0.2).mean)
for search in (Search(DCEM(**options), 1.0), Search(UnrolledGD(num_steps=40, lr=0.2), 1.0)):
    check(search.answer_of(search.solve(bowl, target, 2)))

scores = torch.tensor([[0.3, -1.0, 2.0, 0.1, float("nan")]], dtype=torch.float64, requires_grad=True)
weights = lml(scores, 2, 0.5)
torch.testing.assert_close(weights.sum(-1), torch.tensor([2.0], dtype=torch.float64))
assert weights[0, 2] > weights[0, 0] > weights[0, 3] > weights[0, 1] > weights[0, 4] == 0
gradient, = torch.autograd.grad(weights[0, 0], scores)
assert gradient[0, 0] > 0 and gradient[0, 4] == 0
assert "numpy" not in sys.modules
"""


def test_solvers_run_with_torch_and_jaxtyping_alone():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
