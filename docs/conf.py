"""Sphinx settings. The sources are the repository itself, so that links work here as they do on GitHub."""

import re
from pathlib import Path

from lit_dcem import __version__

ROOT = Path(__file__).parents[1]

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
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "checkpoints/*.md"]
exclude_patterns = [".venv", ".git", "runs", "build", "dist", "**/_build", "**/.jupyter_cache", "**/.ipynb_checkpoints"]

# Markdown, and pages that run
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120  # seconds a page
nb_merge_streams = True

# The API, from the docstrings
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "py:obj"  # `name` in a docstring is a link where the name has a page
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "lit-dcem"
html_extra_path = ["_site/index.html"]
html_static_path = ["_site/style.css"]
html_css_files = ["style.css"]
html_theme_options = {"source_edit_link": ""} if False else {}
