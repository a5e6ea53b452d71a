"""matplotlib's settings for all figures, the markers of schemes, text that can be drawn and the reach of error bars.

Settings hold inside `drawing` only, whatever the user's matplotlibrc says, and are restored afterwards: drawing leaves
nothing behind in the process. Figures are made without pyplot, so they belong to no window and no global state.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

from quant.drawing.palette import LIGHT, LOOKS

MARKER = 8
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
def drawing(**settings: Any) -> Iterator[None]:
    """Figures made and saved inside have this style.

    Args:
        settings: more of matplotlib's, dots as two underscores, as in `font__size=9`.
    """
    # It tells of fonts that it looks through on its first run.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(SETTINGS)  # type: ignore[arg-type]
            for name, value in settings.items():
                mpl.rcParams[name.replace("__", ".")] = value  # type: ignore[index]
            yield
    finally:
        logger.setLevel(level)


def look(scheme: str, size: float = MARKER) -> dict[str, Any]:
    """How markers of a scheme are drawn, as arguments of matplotlib's `plot`. size: in points."""
    chosen = LOOKS[scheme]
    colour = LIGHT[chosen.colour]
    face = colour if chosen.filled else LIGHT["page"]
    return {
        "color": colour,
        "marker": chosen.marker,
        "markersize": size if chosen.filled else 1.375 * size,
        "markerfacecolor": face,
        "markeredgecolor": colour if not chosen.filled else LIGHT["page"],
        "markeredgewidth": 1.4 if not chosen.filled else 0.6,
        "zorder": 3 if chosen.filled else 2.5,
    }


def drawable(text: str) -> str:
    """`text` in characters that every font has: what a model calls itself and its layers is its own affair."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def error_bars(values: Sequence[float], intervals: Sequence[Sequence[float] | None]) -> list[list[float]]:
    """[2][n]: distances down and up, as matplotlib wants them; 0 without an interval, or where it has no finite end.

    The interval of a skewed bootstrap need not hold the value; the bar then reaches to the other side only.
    """
    down, up = [], []
    for value, interval in zip(values, intervals, strict=True):
        low, high = (value, value) if interval is None or not all(map(math.isfinite, interval)) else interval
        down.append(max(0.0, value - low))
        up.append(max(0.0, high - value))
    return [down, up]
