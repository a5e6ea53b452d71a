"""What the figures of the study share: how formats and block sizes look, axes, and a little smaller a style.

A format has the colour and the marker of the scheme that it is (`quant.drawing.palette`), and a dash. Affine int4,
which is no scheme, is in the colour of int4.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quant.drawing import style
from quant.drawing.palette import LIGHT, LOOKS


@dataclass(frozen=True)
class Style:
    """How a format looks in every figure."""

    label: str
    color: str
    marker: str
    dash: str


def _style(scheme: str, label: str, dash: str, marker: str | None = None) -> Style:
    look = LOOKS[scheme]
    return Style(label, LIGHT[look.colour], marker or look.marker, dash)


STYLES = {
    "nf4": _style("nf4", "NF4", "-"),
    "fp4": _style("fp4", "FP4", "-."),
    "int4": _style("int4", "int4", "--"),
    "affine": _style("int4", "affine int4", ":", marker="D"),
}
BLOCK_SIZES = ((LIGHT["ink"], "o"), (LIGHT["muted"], "s"), (LIGHT["link"], "^"))
"""Colour and marker of up to three block sizes, where a figure shows these and not the formats."""
BLACK, GREY, PALE = LIGHT["ink"], LIGHT["muted"], LIGHT["line"]


def drawing() -> AbstractContextManager[None]:
    """The style of the study's figures inside the block."""
    return style.drawing(
        font__size=9,
        axes__labelsize=9,
        lines__markersize=4.5,
        lines__linewidth=1.3,
        figure__constrained_layout__use=True,
        figure__constrained_layout__w_pad=0.1,
    )


def new_figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure 8 inches wide, and its axes in reading order."""
    figure = Figure(figsize=(8, height))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def block_size_axis(axes: Axes, sizes: list[int]) -> None:
    """Block sizes on a logarithmic axis, each with its tick."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
