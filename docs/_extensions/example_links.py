"""Links of Markdown pages to an example's script lead to the page that the script becomes.

On GitHub ``examples/plot_layer.py`` is the script; on the site it is ``auto_examples/plot_layer``.
"""

import re

_LINK = re.compile(r"\]\(((?:\.\./)*)examples/(\w+)\.(?:py|rst)\)")


def _page(match):
    name = "index" if match[2] == "GALLERY_HEADER" else match[2]
    return f"]({match[1]}auto_examples/{name}.rst)"


def rewrite(app, name, source):
    """Replace the links of a page."""
    if app.env.doc2path(name).suffix == ".md":
        source[0] = _LINK.sub(_page, source[0])


def setup(app):
    """Have Sphinx call this for each page that it reads."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
