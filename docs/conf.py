"""How Sphinx builds the site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``.

The pages load nothing from other hosts, and the build asks none.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import torch

import skevo
from skevo._html import ShowsHTML

mpl.use("Agg")
# The examples' tensors are small: threads wait for each other, above all beside other work.
torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "skevo"
author = "The skevo developers"
version = release = skevo.__version__

extensions = [
    "equations",
    "example_links",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples", "auto_examples/*.ipynb", "**/sg_execution_times.rst"]
templates_path = ["_templates"]

# Markdown as GitHub reads it.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# The names of the API in docstrings are links where they are known.
default_role = "py:obj"
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "doc_module": ("skevo",),
    "reference_url": {"skevo": None},
    "backreferences_dir": "api/backreferences",
    "capture_repr": ("_repr_html_",),
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": False,
}

# Where examples show an estimator, its link is one within the site.
ShowsHTML._doc_link_template = "../api/{estimator_module}.{estimator_name}.html"

html_theme = "pydata_sphinx_theme"
html_math_renderer = "svg"
html_title = "skevo"
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Only these have pages below them to show at the side.
html_sidebars = {
    name: []
    for name in (
        "index", "installation", "user-guide", "comparison", "benchmarks", "export", "operators",
        "method", "format", "engine-notes", "glossary", "command-line",
    )
}  # fmt: skip
project_copyright = "the skevo developers"
