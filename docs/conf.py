"""Sphinx settings. The sources are the repository itself, so that links work here as they do on GitHub.

Build: ``pip install -e '.[docs]' && sphinx-build -W --keep-going -c docs . site``; then open ``site/index.html``.
"""

import logging
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util.logging import getLogger

from lit_dcem import __version__

project = "lit-dcem"
author = "the lit-dcem authors"
project_copyright = author
release = __version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "checkpoints/**"]
exclude_patterns = [".*", "runs", "build", "dist", "docs/_*", "docs/*.py"]
templates_path = ["_templates"]
# A folder of pages may be empty: a page that no pattern finds is a warning of its own.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(lambda record: "glob pattern" not in str(record.msg))

# Markdown, and pages that run
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 4
myst_update_mathjax = False
html_math_renderer = "mathml"
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell, on a busy machine; a whole page takes less than 60 on a quiet one
os.environ.setdefault("OMP_NUM_THREADS", "1")  # pages run side by side; with more threads than cores they wait in loops
nb_execution_in_temp = True  # what a page writes does not end up here
nb_merge_streams = True

# The API, from the docstrings
API = "".join(page.read_text() for page in Path(__file__).parent.glob("api*.md"))
for page in (Path(__file__).parent / "generated").glob("*.rst"):
    if f"   {page.stem}\n" not in API:  # left from a build before the name went
        page.unlink()
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # those of Lightning and torch are in their own documentation
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "py:obj"  # `name` in a docstring is a link where the name has a page
maximum_signature_line_length = 88

html_theme = "furo"
html_title = "lit-dcem"
html_extra_path = ["_site"]
html_static_path = ["_static"]
html_css_files = ["formulas.css"]


def setup(app: Any) -> None:
    """Formulas become MathML while the site is built, so that browsers show them without a script or a network."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))


def visit_math(translator: Any, node: Any) -> None:
    """Write a formula as MathML, or warn that it is not LaTeX."""
    is_block = isinstance(node, nodes.math_block)
    tag = "div" if is_block else "span"
    try:
        formula = LatexToMathML(fancy_error=False).convert_with_local_state(node.astext(), displaystyle=is_block)
    except LatexError as error:
        getLogger(__name__).warning("A formula must be LaTeX, got %s (%s).", node.astext(), error, location=node)
        formula = ""
    translator.body.append(f'<{tag} class="math notranslate nohighlight">{formula}</{tag}>')
    raise nodes.SkipNode
