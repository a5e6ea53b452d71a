"""What all figures share: colours and markers of the formats, and SVG that is the same bytes for the same records.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; formats also differ by marker and dash. Text
stays text, which keeps the files small and readable for search and screen readers.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Style:
    """How a format looks in every figure."""

    label: str
    color: str
    marker: str
    dash: str


STYLES = {
    "nf4": Style("NF4", "#0072B2", "o", "-"),
    "fp4": Style("FP4", "#009E73", "^", "-."),
    "int4": Style("int4", "#D55E00", "s", "--"),
    "affine": Style("affine int4", "#CC79A7", "D", ":"),
}
LONG_NUMBER = re.compile(r"\d+\.\d{3,}")
BLACK, GREY = "#222222", "#767676"
SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "quant study",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.3,
    "path.simplify": True,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
}


@contextmanager
def drawing() -> Iterator[None]:
    """The settings of all figures inside the block, whatever the reader's own are."""
    import matplotlib  # noqa: PLC0415

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, SETTINGS))
        yield


def new_figure(rows: int, columns: int, height: float, **options: Any) -> "tuple[Figure, list[Axes]]":
    """A figure 8 inches wide, and its axes in reading order. It belongs to no window and no global state."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, height))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def to_svg(figure: "Figure") -> str:
    """The figure as SVG without a date, coordinates to two decimals; what is written in it stays as it is."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<[^>]*>", lambda tag: LONG_NUMBER.sub(_shorter, tag[0]), buffer.getvalue())
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _shorter(number: "re.Match[str]") -> str:
    return f"{float(number[0]):.2f}"


def block_size_axis(axes: "Axes", sizes: list[int]) -> None:
    """Block sizes on a logarithmic axis, each with its tick."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()


def error_bars(values: list[float], intervals: list[Any]) -> list[list[float]]:
    """[2][n]: distances down and up, as matplotlib wants them."""
    down = [max(0.0, value - interval[0]) for value, interval in zip(values, intervals, strict=True)]
    up = [max(0.0, interval[1] - value) for value, interval in zip(values, intervals, strict=True)]
    return [down, up]
