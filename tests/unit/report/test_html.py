"""The page: what is in it, that it needs nothing else, that no text gets out of its place, and that it is the same
bytes for the same records.
"""

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from quant.drawing.palette import DARK, LIGHT
from quant.drawing.style import drawing
from quant.evaluate.loss_profile import PositionBin
from quant.records import Result
from quant.report import descriptions
from quant.report.figures.accuracy import accuracy_against_size
from quant.report.figures.layers import error_by_layer
from quant.report.html import to_html
from quant.report.tables import comparison_notes, comparison_tables
from quant.variants import VARIANTS
from tests.unit.report.page import Page
from tests.unit.report.samples import BASELINE, COMPARISON, INT8, KINDS, MISSING, many_schemes

EVIL = "<script>alert(1)</script>\" onload='alert(2)' </title></style></svg>--> &amp; $x^2$ \x00\x1b\ud800\u202e ]]>"
FIGURES = 6


@pytest.fixture(scope="module")
def html() -> str:
    return to_html(COMPARISON)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def rows_of(page: Page) -> list[str]:
    return [text for tag in ("th", "td") for _, text in page.all(tag)]


def test_it_has_the_cells_of_the_other_renderings(page: Page) -> None:
    tables = comparison_tables(COMPARISON)
    assert [text for _, text in page.all("caption")] == [table.title for table in tables]
    expected = [cell for table in tables for row in (table.header, *table.rows) for cell in row]
    assert sorted(rows_of(page)) == sorted(expected)
    scopes = [attributes["scope"] for attributes, _ in page.all("th")]
    assert scopes.count("col") == sum(len(table.header) for table in tables)
    assert scopes.count("row") == sum(len(table.rows) for table in tables)


def test_it_tells_what_was_measured_and_how_to_repeat_it(page: Page) -> None:
    text = page.all("body")[0][1]
    for note in comparison_notes(COMPARISON):
        assert note in text
    for sentence in descriptions.summary(COMPARISON):
        assert sentence in text
    assert "same on every CPU;" not in text
    assert "float parts of a model differ in the last bits. GPUs round otherwise" in text
    assert ("quant compare my-model --json out.json") in [text for _, text in page.all("pre")]
    assert [text for _, text in page.all("dd")][:3] == ["my-model", "float32", "cpu"]
    samples = [text for attributes, text in page.all("section") if attributes.get("class") == "sample"]
    assert len(samples) == 2
    assert "of the | United States" in samples[0]
    assert re.search(r"Differs after 7 characters\s*of the United States", samples[1])


def test_what_is_the_baseline_s_text_is_marked(page: Page) -> None:
    assert [text for attributes, text in page.all("span") if attributes.get("class") == "same"] == ["of the "]
    same = replace(COMPARISON, results=(BASELINE, replace(BASELINE, scheme="w8a16")))
    assert "The same as the baseline&#39;s" in to_html(same) or "The same as the baseline's" in to_html(same)


def test_it_needs_nothing_else_and_runs_nothing(html: str, page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "audio",
        "video",
        "foreignobject",
    }
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "xlink:href", "src"):
                assert value is not None
                assert value.startswith("#"), (tag, name, value)
    assert all(found.startswith("url(#") for found in re.findall(r"url\([^)]*", html))
    assert "@import" not in html
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    wanted = {
        str(attributes[name]).removeprefix("#")
        for _, attributes in page.elements
        for name in ("href", "xlink:href")
        if name in attributes
    }
    wanted |= {name for _, attributes in page.elements for name in str(attributes.get("aria-labelledby", "")).split()}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", str([attributes for _, attributes in page.elements])))
    assert wanted <= set(ids)
    assert len(wanted) > 2 * FIGURES


def test_headings_are_in_order_and_there_is_one_title(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert page.all("html")[0][0]["lang"] == "en"
    assert page.all("title")[0][1] == "Quantizing my-model"


def test_the_keyboard_reaches_what_scrolls(page: Page) -> None:
    """And everything that is focused shows it; the first link skips to the content."""
    scrolled = [attributes for _, attributes in page.elements if attributes.get("class") == "scroll"]
    assert len(scrolled) == 3 + FIGURES
    for attributes in scrolled:
        assert (attributes["tabindex"], attributes["role"]) == ("0", "region")
        assert attributes["aria-label"]
    assert page.all("a")[0][0] == {"class": "skip", "href": "#content"}
    assert "focus-visible { outline: 3px" in page.all("style")[0][1]


def test_every_figure_says_what_it_shows(page: Page) -> None:
    """With the numbers, of every scheme that it draws."""
    figures = [attributes for attributes, _ in page.all("svg")]
    assert len(figures) == FIGURES
    named = {
        attributes["id"]: text for tag in ("title", "desc") for attributes, text in page.all(tag) if "id" in attributes
    }
    for attributes in figures:
        assert attributes["role"] == "img"
        title, description = (named[name] for name in str(attributes["aria-labelledby"]).split())
        assert title
        assert "w8a16" in description
        assert re.search(r"\d", description)
    assert (
        "w8a16: 12.00 MB, +0.00284 % with a 95 % interval from -0.01 % to +0.01 %" in named["accuracy-size-description"]
    )
    assert "from 41.2 dB (model.layers.0.mlp.down_proj) to 43.5 dB" in named["layer-error-description"]


def test_figures_keep_text_and_take_the_page_s_colours(html: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(svgs) == FIGURES
    for svg in svgs:
        ElementTree.fromstring(svg)
        assert svg.count("<text") >= 5
        assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that the dark scheme does not know"
        assert "font-family" not in svg
        used = set(re.findall(r"var\(--([\w]+)\)", svg))
        assert used <= set(LIGHT)
        assert "ink" in used
    for name in LIGHT:
        assert html.count(f"--{name}: {LIGHT[name]};") == 1
        assert html.count(f"--{name}: {DARK[name]};") == 1


def test_all_schemes_and_kinds_of_layers_are_drawn() -> None:
    page = Page(to_html(many_schemes()))
    texts = [text for _, text in page.all("text")]
    for scheme in VARIANTS:
        assert texts.count(scheme) >= 3
    for kind in (*KINDS, "lm_head"):
        assert texts.count(kind) == 1


def evil(result: Result) -> Result:
    return replace(result, generated=EVIL, generated_agrees=5, layer_sqnr={f"{EVIL}.3.{EVIL}": 1.0})


def test_names_and_texts_stay_text(html: str) -> None:
    """In the page, in the figures and in their descriptions."""
    comparison = replace(
        COMPARISON, model=EVIL, command=EVIL, results=(evil(BASELINE), evil(INT8), replace(MISSING, error=EVIL))
    )
    found = to_html(comparison)
    found.encode("utf-8")
    page, plain = Page(found), Page(html)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert "<script" not in found
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", found)
    shown = EVIL.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd")
    assert page.all("title")[0][1] == f"Quantizing {shown}"
    assert [text for _, text in page.all("pre")] == [shown]
    samples = [text for attributes, text in page.all("section") if attributes.get("class") == "sample"]
    assert all(shown in text for text in samples)
    assert len(page.all("svg")) == len(plain.all("svg"))
    for svg in re.findall(r"<svg.*?</svg>", found, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_same_records_give_the_same_bytes(html: str) -> None:
    assert to_html(COMPARISON) == html
    assert not re.search(r"20\d\d-\d\d-\d\d", html)


def names_drawn(html: str) -> Sequence[str | None]:
    return [attributes["aria-labelledby"] for attributes, _ in Page(html).all("svg")]


@pytest.mark.parametrize(
    "results",
    [
        pytest.param((BASELINE,), id="the baseline alone"),
        pytest.param((Result("baseline"), Result("w8a16")), id="older records"),
        pytest.param((BASELINE, COMPARISON.results[2]), id="a broken model"),
        pytest.param((BASELINE, replace(BASELINE, scheme="nf4")), id="the baseline again"),
    ],
)
def test_what_is_not_there_is_not_drawn(results: tuple[Result, ...]) -> None:
    html = to_html(replace(COMPARISON, results=results, positions=(PositionBin(1, 1, 9),)))
    Page(html)
    assert len(names_drawn(html)) < FIGURES
    assert "There is nothing to draw" in html


def test_layers_without_an_error_are_not_drawn_and_cost_no_page() -> None:
    """A projection that was initialised with zeros has an infinite SQNR: here all that a scheme has in one panel."""
    sqnr = {f"model.layers.{block}.mlp.down_proj": 40.0 + block for block in range(3)}
    zeros = {f"model.layers.{block}.self_attn.o_proj": math.inf for block in range(3)}
    comparison = replace(COMPARISON, results=(BASELINE, replace(INT8, layer_sqnr=sqnr | zeros)))
    texts = [text for _, text in Page(to_html(comparison)).all("text")]
    assert [texts.count(kind) for kind in ("mlp.down_proj", "self_attn.o_proj")] == [1, 1]
    with drawing():
        figure = error_by_layer(comparison)
    assert figure is not None
    points = {axes.get_title(): [np.asarray(line.get_ydata()).tolist() for line in axes.lines] for axes in figure.axes}
    assert points == {"mlp.down_proj": [[40.0, 41.0, 42.0]], "self_attn.o_proj": [[]]}


@pytest.mark.parametrize(("interval", "ends"), [((1.002, 1.003), (0.1, 0.3)), ((0.998, 0.999), (-0.2, 0.1))])
def test_an_interval_that_does_not_hold_its_value_is_drawn(
    interval: tuple[float, float], ends: tuple[float, float]
) -> None:
    """As a percentile bootstrap of skewed losses may give one: the bar ends at the value."""
    result = replace(INT8, perplexity_ratio=1.001, perplexity_ratio_ci=interval)
    with drawing():
        figure = accuracy_against_size(replace(COMPARISON, results=(BASELINE, result)))
    assert figure is not None
    (bars,) = [part for part in figure.axes[0].collections if isinstance(part, LineCollection)]
    assert bars.get_segments()[0][:, 1] == pytest.approx(ends)
