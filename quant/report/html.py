"""A comparison as one HTML page that needs nothing else: figures and style are inside, there is no script, and the page
forbids itself every request (Content-Security-Policy), so it can be mailed, archived, or opened from a CI's artifacts.

Names and generated texts come from models and are not trusted: everything is escaped by the template or in the
figures, characters that HTML cannot hold are replaced, and text keeps its own direction. The same records give the
same bytes: nothing here knows the time.

matplotlib and jinja2 take a second to import; only who writes a report imports this module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from quant.drawing import palette
from quant.drawing.style import drawing
from quant.drawing.svg import svg_element
from quant.records import Comparison
from quant.report import descriptions
from quant.report.figures import accuracy, layers, resources
from quant.report.tables import Table, accuracy_table, comparison_notes, size_table, speed_table


@dataclass(frozen=True)
class Picture:
    """A figure in the page. svg: None where there is nothing to draw; caption: how to read it."""

    name: str
    title: str
    caption: str
    svg: Markup | None


@dataclass(frozen=True)
class Section:
    """A heading with tables and pictures; name: its anchor."""

    name: str
    title: str
    tables: Sequence[Table]
    pictures: Sequence[Picture]


Draw = Callable[[Comparison], Figure | None]


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
        sections = _sections(comparison)
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        summary=descriptions.summary(comparison),
        sections=sections,
        samples=[result for result in comparison.measured if result.generated is not None],
        notes=comparison_notes(comparison),
        fingerprint=_fingerprint(comparison),
        light=palette.LIGHT,
        dark=palette.DARK,
    )


def _sections(comparison: Comparison) -> Sequence[Section]:
    """What has tables or pictures, in reading order."""

    def picture(name: str, draw: Draw, describe: Callable[[Comparison], str], title: str, caption: str) -> Picture:
        figure = draw(comparison)
        svg = None if figure is None else svg_element(figure, name, title, _printable(describe(comparison)))
        return Picture(name, title, caption, svg)

    return (
        Section(
            "accuracy",
            "Accuracy",
            [accuracy_table(comparison)],
            [
                picture(
                    "accuracy-size",
                    accuracy.accuracy_against_size,
                    descriptions.accuracy_against_size,
                    "Accuracy against size",
                    "Best is at the bottom left. Bars are 95 % intervals of the paired difference on the same "
                    "tokens: one that reaches 0 means that no difference was found. Hollow markers are bitsandbytes'.",
                )
            ],
        ),
        Section(
            "loss",
            "Loss per token",
            [],
            [
                picture(
                    "loss-differences",
                    accuracy.loss_differences,
                    descriptions.loss_differences,
                    "Loss of each token, beside the baseline's",
                    "The marker is the median over all tokens; the thick bar holds half of them, the middle one nine "
                    "tenths, the thin one 98 %. The scale is linear about 0 and logarithmic beyond.",
                ),
                picture(
                    "loss-position",
                    accuracy.loss_by_position,
                    descriptions.loss_by_position,
                    "Mean loss by position in the window",
                    "Above the baseline's own loss, which falls as it sees more context; below what each scheme adds. "
                    "The first positions are few tokens, so their means scatter.",
                ),
            ],
        ),
        Section(
            "size",
            "Footprint",
            [size_table(comparison)],
            [
                picture(
                    "memory",
                    resources.memory_by_dtype,
                    descriptions.memory_by_dtype,
                    "Memory by dtype",
                    "Parameters and buffers. Embedding and head stay in float unless a scheme says otherwise.",
                )
            ],
        ),
        Section(
            "speed",
            "Speed",
            [speed_table(comparison)],
            [
                picture(
                    "speeds",
                    resources.tokens_per_second,
                    descriptions.tokens_per_second,
                    "Tokens per second",
                    "Of one run on one machine: compare within this page only.",
                )
            ],
        ),
        Section(
            "layers",
            "Error by layer",
            [],
            [
                picture(
                    "layer-error",
                    layers.error_by_layer,
                    descriptions.error_by_layer,
                    "Signal-to-quantization-noise ratio of the weights",
                    "Of each quantized layer against its float weight: 10 dB more are a tenth of the squared error. "
                    "bitsandbytes' layers are not measured.",
                )
            ],
        ),
    )


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
