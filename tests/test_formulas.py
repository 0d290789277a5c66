"""Formulas in docstrings: the names that have one in the paper keep it, it is LaTeX, and the site has a page for it."""

import ast
import re

import pytest
from support.documents import ROOT

WITH_FORMULAS = {
    "solvers.lml": ["lml", "LML"],
    "solvers.cem": ["dcem", "cem", "DCEM"],
    "solvers.weights": ["SoftTopK", "Softmax", "LogRank"],
    "solvers.distributions": ["Gaussian"],
    "solvers.full_gaussian": ["FullGaussian"],
    "solvers.presets": ["mppi"],
    "solvers.gradient_descent": ["unrolled_gd", "UnrolledGD"],
    "solvers.planning": ["Planner"],
    "regression.module": ["EnergyRegression"],
    "embedding.decoder": ["ActionDecoder"],
    "embedding.loss": ["EmbeddingLoss"],
    "cartpole.dynamics": ["step", "reward", "rollout_cost"],
    "cartpole.module": ["CartpoleEmbedding"],
    "cartpole.pca": ["PCAPlanner"],
    "cartpole.planners": ["FullSpacePlanner"],
    "planet.model.rssm": ["RSSM"],
    "planet.model.value": ["ValueHead", "ValueEnsemble"],
    "planet.model.world_model": ["WorldModel"],
    "planet.phases.policy_gradient": ["PolicyGradient"],
    "planet.phases.ppo": ["generalized_advantages", "clipped_policy_loss", "value_loss"],
    "planet.phases.value_learning": ["lambda_returns", "ValueLearning"],
    "planet.planning.cem": ["CEMPlanner"],
    "planet.planning.imagination": ["imagined_returns"],
    "planet.planning.latent": ["LatentPlanner"],
}
"""functions and classes, by module"""
MATH = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
KINDS = ast.FunctionDef | ast.ClassDef


def formulas_of(module):
    """The formulas of each function and class at the top of a module."""
    path = ROOT / "lit_dcem" / f"{module.replace('.', '/')}.py"
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, KINDS)]
    return {node.name: [found[2] for found in MATH.finditer(ast.get_docstring(node) or "")] for node in nodes}


def all_formulas():
    """Names and formulas of all modules."""
    for path in sorted((ROOT / "lit_dcem").rglob("*.py")):
        if ".. math::" in path.read_text():
            module = ".".join(path.relative_to(ROOT / "lit_dcem").with_suffix("").parts)
            yield from ((module, name, each) for name, found in formulas_of(module).items() for each in found)


@pytest.mark.parametrize("module", WITH_FORMULAS)
def test_what_has_a_formula_keeps_it(module):
    found = formulas_of(module)
    assert not [name for name in WITH_FORMULAS[module] if not found[name]]


def test_every_formula_is_on_a_page_of_the_site():
    listed = "".join((ROOT / "docs" / page).read_text() for page in ("api.md", "api_parts.md"))
    pages = set(re.findall(r"^   lit_dcem\.(\S+)$", listed, re.MULTILINE))
    found = {(module, name) for module, name, _ in all_formulas()}
    assert found == {(module, name) for module, names in WITH_FORMULAS.items() for name in names}
    assert not [name for module, name in found if not pages & {name, f"{module}.{name}"}]


def test_every_formula_is_latex():
    """In a docstring that is not raw, a backslash and a letter may be something else: a tab instead of ``\\tau``."""
    formulas = [formula for *_, formula in all_formulas()]
    assert len(formulas) > 30
    assert not [each for each in formulas if re.search(r"[^\x20-\x7e\n]", each)]
    converter = pytest.importorskip("math_core", reason="needs the packages of the documentation").LatexToMathML()
    assert all("<math" in converter.convert_with_local_state(each, displaystyle=True) for each in formulas)
