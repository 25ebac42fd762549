"""The settings for building the documentation with `make docs`, where a warning is an error."""

import importlib.resources
import os
import sys
from pathlib import Path

# This must be set before JAX is imported. The signatures are read on a CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import gradtx  # noqa: E402

project = "gradtx"
author = "The gradtx authors"
copyright = author
version = release = gradtx.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "face",
    "optimizer_table",
]
exclude_patterns = ["_build", "_ext", "conf.py", "**/.ipynb_checkpoints"]

# The pages show the rendered notebooks with their outputs; the tests run the notebooks. The source of a
# notebook is shown instead if no rendered notebook stands beside it.
nb_execution_mode = "off"
exclude_patterns += [
    f"notebooks/{source.name}"
    for source in (HERE / "notebooks").glob("*.py")
    if source.with_suffix(".ipynb").exists()
]
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# The docstrings say what each argument is. The annotations say only `Any` or `Hyper` for many of them.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False

# MathJax in one file, from a Python package, so that the pages work without a network.
mathjax_file = importlib.resources.files("mathjax") / "static/mathjax/es5/tex-svg-full.js"
mathjax_path = mathjax_file.name

html_theme = "sphinx_book_theme"
html_title = "gradtx"
html_static_path = ["_static", str(mathjax_file)]
html_css_files = ["gradtx.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_persistent": [],  # the search field is in the sidebar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "logo": {"text": "gradtx"},
}
pygments_style = "default"
