"""A comparison as one HTML page that needs nothing else: figures and style are inside, there is no script, and the page
forbids itself every request (Content-Security-Policy), so it can be mailed, archived, or opened from a CI's artifacts.

Names and generated texts come from models and are not trusted: everything is escaped by the template or in the
figures, characters that HTML cannot hold are replaced, and text keeps its own direction. The same records give the
same bytes: nothing here knows the time.

matplotlib and jinja2 take a second to import; only who writes a report imports this module.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from quant.drawing import palette
from quant.drawing.style import drawing
from quant.drawing.svg import svg_element
from quant.records import Comparison
from quant.report import descriptions
from quant.report.sections import SECTIONS, Picture
from quant.report.tables import comparison_notes


def to_html(comparison: Comparison) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: _printable(value) if type(value) is str else value,
    )
    with drawing():
        figures = {picture.name: _drawn(picture, comparison) for section in SECTIONS for picture in section.pictures}
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        summary=descriptions.summary(comparison),
        sections=SECTIONS,
        figures=figures,
        samples=[result for result in comparison.measured if result.generated is not None],
        notes=comparison_notes(comparison),
        fingerprint=_fingerprint(comparison),
        light=palette.LIGHT,
        dark=palette.DARK,
    )


def _drawn(picture: Picture, comparison: Comparison) -> Markup | None:
    """The figure as an element of the page, with what it shows in words; None where there is nothing to draw."""
    figure = picture.draw(comparison)
    if figure is None:
        return None
    return svg_element(figure, picture.name, picture.title, _printable(picture.describe(comparison)))


def _fingerprint(comparison: Comparison) -> dict[str, Any]:
    """What was measured on and with, as names and values to show."""
    env = comparison.environment
    return {
        "model": comparison.model,
        "dtype": env.dtype,
        "device": env.device,
        "CPU": env.cpu,
        "threads": env.threads,
        "processes": comparison.processes,
        "batch size": env.batch_size,
        "scored tokens": f"{env.scored_tokens:,}",
        "window": env.window,
        "stride": env.stride,
        "BOS": "none" if env.bos_id is None else env.bos_id,
        "SHA-256 of the tokens": env.tokens_sha256,
        **env.versions,
    }


def _printable(text: str) -> str:
    """`text` without the characters that HTML or UTF-8 cannot hold."""
    return "".join(
        "\ufffd" if (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" else c
        for c in text
    )
