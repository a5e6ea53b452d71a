"""A matplotlib figure as SVG to put into a page: text stays text, colours are the page's, and the bytes are the same
for the same figure.

matplotlib writes a document of its own, with ids that every figure has, a style for all elements, and colours as
they were drawn. Here the document's head and style are dropped, ids get the figure's name in front, colours of the
palette become `var(--NAME)`, and text takes the font of the page. Text is laid out by the widths of DejaVu Sans,
which matplotlib brings with it, so that the figure does not depend on the fonts of a machine; that is a wide font, and
other ones take less room than they were given.

For screen readers the drawing is one image with a title and a description, both escaped.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from quant.report.palette import LIGHT

SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": LIGHT["ink"],
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlecolor": LIGHT["ink"],
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "quant",
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # names of layers are not formulas
    "xtick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.color": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["ink"],
}


@contextmanager
def drawing() -> Iterator[None]:
    """Figures made inside look like the page, whatever matplotlibrc says; settings are restored afterwards."""
    # It tells of fonts that it looks through on its first run.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(SETTINGS)  # type: ignore[arg-type]
            yield
    finally:
        logger.setLevel(level)


def to_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The `<svg>` element of `figure`, drawn inside `drawing`; name: unique in the page, a word."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Creator": None, "Date": None, "Format": None, "Type": None})
    return Markup(_embedded(file.getvalue(), name, title, description))


def _embedded(document: str, name: str, title: str, description: str) -> str:
    """The document of matplotlib as an element of a page."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    for pattern in (r'(\sid=")', r'(\sxlink:href="#)', r"(url\(#)"):
        svg = re.sub(pattern, rf"\g<1>{name}-", svg)
    # matplotlib before 3.11 writes one property, since then two.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    for colour, value in LIGHT.items():
        svg = svg.replace(value, f"var(--{colour})")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None
    head = (
        f'<svg class="figure" role="img" aria-labelledby="{name}-title {name}-description" viewBox="{size[0][9:-1]}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    return head + svg[svg.index(">") + 1 :].rstrip()
