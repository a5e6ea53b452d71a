"""Figures as SVG: what a page needs of it, what stays as it was written, and the same bytes each time."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.figure import Figure

from quant.drawing.palette import LIGHT
from quant.drawing.style import drawing
from quant.drawing.svg import svg_element, svg_file

TEXT = 'a id="b" #ffffff 0.12345 <i>&'
"""What the tags are searched for, as a text."""


@pytest.fixture(name="figure")
def some_figure() -> Figure:
    with drawing():
        figure = Figure(figsize=(2, 1))
        axes = figure.subplots()
        axes.plot([0, 1 / 3], [0, 1], color=LIGHT["nf4"], clip_on=True)
        axes.set_title(TEXT)
    return figure


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_an_element_has_ids_of_its_own_and_the_page_s_colours_and_font(figure: Figure) -> None:
    with drawing():
        svg = str(svg_element(figure, "first", "A <title>", "words & more"))
    ids = re.findall(r'<[^>]*\sid="([^"]*)"', svg)
    assert ids
    assert all(name.startswith("first-") for name in ids)
    references = re.findall(r'<[^>]*(?:xlink:href="#|url\(#)([^")]*)', svg)
    assert references
    assert set(references) <= set(ids)
    tags = "".join(re.findall("<[^>]*>", svg))
    assert "var(--nf4)" in tags
    assert "var(--ink)" in tags
    assert "#" not in re.sub(r'"#first-|\(#first-', "", tags)
    assert "font-family" not in tags
    assert "<style" not in svg
    assert '<title id="first-title">A &lt;title&gt;</title>' in svg
    assert ">words &amp; more</desc>" in svg


def test_text_stays_as_it_was_written(figure: Figure) -> None:
    with drawing():
        found = svg_element(figure, "first", "title", "words"), svg_file(figure)
    for svg in found:
        assert TEXT in texts(svg)


def test_a_file_is_white_short_and_the_same_each_time(figure: Figure) -> None:
    with drawing():
        svg = svg_file(figure)
        assert svg_file(figure) == svg
        assert "fill: none" in svg_element(figure, "first", "title", "words").split("patch_1")[1][:200]
    assert LIGHT["page"] in svg.split("patch_1")[1][:200]
    assert not re.search(r"<[^>]*\d\.\d{3}", svg)
    assert "<dc:date>" not in svg
