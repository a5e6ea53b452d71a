"""A matplotlib figure as SVG, the same bytes for the same figure: as an element of a page, or as a file of its own.

matplotlib writes a document with a date, with ids that every figure has, a style for all elements, and colours as they
were drawn. In a page the document's head and style are dropped, ids get the figure's name in front, colours of the
palette become `var(--NAME)`, and text takes the font of the page. Text is laid out by the widths of DejaVu Sans,
which matplotlib brings with it, so that the figure does not depend on the fonts of a machine; that is a wide font, and
other ones take less room than they were given. For screen readers the drawing is one image with a title and a
description, both escaped.

A file of its own has a white ground, as nobody knows what it will be shown on, and coordinates to two decimals, which
makes it half as large.
"""

import io
import re
from collections.abc import Callable

from markupsafe import Markup, escape
from matplotlib.figure import Figure

from quant.drawing.palette import LIGHT

METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
LONG_NUMBER = re.compile(r"\d+\.\d{3,}")


def svg_element(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The `<svg>` element of `figure` for a page, inside `style.drawing`; name: unique in the page, a word."""
    return Markup(_embedded(_document(figure), name, title, description))


def svg_file(figure: Figure) -> str:
    """The content of a file with `figure`, inside `style.drawing`; what is written in it stays text, to its digits."""
    text = _in_tags(_document(figure, LIGHT["page"]), lambda tag: LONG_NUMBER.sub(_shorter, tag))
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _document(figure: Figure, ground: str = "none") -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", facecolor=ground, metadata=METADATA)
    return file.getvalue()


def _in_tags(document: str, change: Callable[[str], str]) -> str:
    """`document` with its tags changed, and no text between them."""
    return re.sub(r"<[^>]*>", lambda tag: change(tag[0]), document)


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}"


def _embedded(document: str, name: str, title: str, description: str) -> str:
    """The document of matplotlib as an element of a page."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = _in_tags(svg, lambda tag: _of_page(tag, name))
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None
    head = (
        f'<svg class="figure" role="img" aria-labelledby="{name}-title {name}-description" viewBox="{size[0][9:-1]}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    return head + svg[svg.index(">") + 1 :].rstrip()


def _of_page(tag: str, name: str) -> str:
    """A tag whose ids are those of the figure `name`, whose colours are the page's and whose font is."""
    for pattern in (r'(\sid=")', r'(\sxlink:href="#)', r"(url\(#)"):
        tag = re.sub(pattern, rf"\g<1>{name}-", tag)
    # matplotlib before 3.11 writes one property, since then two.
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    tag = re.sub(r" font-family: [^;\"]*;", "", tag)
    for colour, value in LIGHT.items():
        tag = tag.replace(value, f"var(--{colour})")
    return tag
