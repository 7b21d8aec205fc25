"""Sphinx configuration."""

import importlib.util

from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation

import kernelgap
from kernelgap.typing import ArrayLike, DTypeLike, Key

project = "kernelgap"
author = "The kernelgap authors"
copyright = "2026, the kernelgap authors"
release = version = kernelgap.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath"]
# Tutorials are executed by every build: what they print is what this version prints.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
myst_heading_anchors = 3
# MathJax among the static files: formulas need no network. What renders to SVG is left out.
_MATHJAX = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0]
html_static_path = ["_static", f"{_MATHJAX}/static"]
mathjax_path = "mathjax/tex-chtml.js"
exclude_patterns = ["_build", "mathjax/*-svg*", "mathjax/*-full*", "mathjax/output/svg"]
default_role = "py:obj"  # `name` in docstrings: code, and a link where the name is known
html_theme = "furo"
html_title = f"kernelgap {release}"
html_css_files = ["kernelgap.css"]
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
nitpicky = False

# Unions that signatures would spell out, longest first.
_ALIASES = {"Key": Key, "ArrayLike": ArrayLike, "DTypeLike": DTypeLike}
_SPELLED = {
    stringify_annotation(alias, mode): name
    for name, alias in _ALIASES.items()
    for mode in ("smart", "fully-qualified-except-typing")
}


def _name_aliases(app, what, name, obj, options, signature, returns):
    for long, short in _SPELLED.items():
        signature = signature and signature.replace(long, short)
        returns = returns and returns.replace(long, short)
    return signature, returns


def _list_members(app, what, name, obj, options, lines):
    """Begin the description of a room with a table of what is in it."""
    if what != "module" or name.count(".") != 1 or name.endswith((".saving", ".typing")):
        return
    lines += ["", ".. list-table::", "   :widths: auto", ""]
    data = ModuleAnalyzer.for_module(name).find_attr_docs()
    for member in obj.__all__:
        doc = data.get(("", member)) or getattr(obj, member).__doc__.splitlines()
        lines += [f"   * - :py:obj:`{member} <{name}.{member}>`", f"     - {doc[0]}"]
    lines.append("")


def _skip_fields(app, what, name, obj, skip, options):
    """Fields of a NamedTuple are described in its docstring."""
    return (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") or skip


def setup(app):
    app.connect("autodoc-process-signature", _name_aliases)
    app.connect("autodoc-process-docstring", _list_members)
    app.connect("autodoc-skip-member", _skip_fields)
