"""Equations as SVG, drawn by ziamath: no script, no font, nothing to fetch."""

from xml.etree import ElementTree as ET

import ziafont
import ziamath
from docutils.nodes import SkipNode

# Glyphs are drawn in place: symbols would have the same names in each equation of a page.
ziafont.config.svg2 = False
_SIZE = 24.0


def draw(latex, inline):
    """Return an equation as SVG, in units of the text's size and in its colour."""
    equation = ziamath.Latex(latex, size=_SIZE, color="currentColor", inline=inline).svgxml()
    _, top, width, height = map(float, equation.get("viewBox").split())
    equation.set("width", f"{width / _SIZE:.3f}em")
    equation.set("height", f"{height / _SIZE:.3f}em")
    # What lies below the line of the text.
    equation.set("style", f"vertical-align: {-(top + height) / _SIZE:.3f}em")
    equation.set("role", "img")
    equation.set("aria-label", " ".join(latex.split()))
    return ET.tostring(equation, encoding="unicode")


def visit_math(self, node):
    """Write an equation that stands in a line."""
    self.body.append(draw(node.astext(), inline=True))
    raise SkipNode


def visit_displaymath(self, node):
    """Write an equation that stands alone."""
    self.body.append(self.starttag(node, "div", CLASS="equation"))
    self.body.append(draw(node.astext().strip(), inline=False))
    self.body.append("</div>\n")
    raise SkipNode


def setup(app):
    """Make the renderer known to Sphinx."""
    app.add_html_math_renderer("svg", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
