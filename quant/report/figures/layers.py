"""The error of each quantized layer's weight: a panel for each kind of layer, over the blocks of the model."""

import re

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from quant.records import Comparison
from quant.report.figures.drawing import WIDTH, finite, legend, look

MOST_PANELS = 12
"""More kinds of layers than that are left to the JSON file."""


def layer_kinds(comparison: Comparison) -> dict[str, dict[str, int]]:
    """Kind, as in `self_attn.o_proj` -> name of a layer -> its block, the first number in its name, or 0. The part that
    all kinds begin with is left out.
    """
    kinds: dict[str, dict[str, int]] = {}
    for name in dict.fromkeys(name for result in comparison.measured for name in result.layer_sqnr):
        number = re.search(r"(?<!\w)\d+(?!\w)", name)
        kind = name if number is None else name[number.end() :].removeprefix(".") or name
        kinds.setdefault(kind, {})[name] = int(number[0]) if number else 0
    return kinds


def error_by_layer(comparison: Comparison) -> Figure | None:
    """SQNR in dB over the number of the block."""
    drawn = [r for r in comparison.measured if any(map(finite, r.layer_sqnr.values()))]
    if not drawn:
        return None
    kinds = dict(list(layer_kinds(comparison).items())[:MOST_PANELS])
    columns = min(len(kinds), 2 if len(kinds) <= 4 else 3)
    count = -(-len(kinds) // columns)
    figure = Figure(figsize=(WIDTH, 1.2 + 1.9 * count), layout="constrained")
    panels = figure.subplots(count, columns, sharey=True, squeeze=False)
    for axes, (kind, blocks) in zip(panels.flat, kinds.items(), strict=False):
        for result in drawn:
            # A projection that was initialised with zeros, or weights that were quantized before, have no error: an
            # infinite SQNR. That may be all that a scheme has in a panel, which then still names it.
            drawable = {blocks[n]: value for n, value in result.layer_sqnr.items() if n in blocks and finite(value)}
            style = {**look(result.scheme), "markersize": 5}
            axes.plot(list(drawable), list(drawable.values()), linewidth=1.2, label=result.scheme, **style)
        axes.set_title(_drawable(kind)[-28:])
        axes.set_xlim(min(blocks.values()) - 0.5, max(blocks.values()) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    for axes in panels.flat[len(kinds) :]:
        axes.set_visible(False)
    figure.supylabel("SQNR in dB (higher is better)", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("block")
    legend(figure, panels.flat[0])
    return figure


def _drawable(name: str) -> str:
    """`name` in characters that every font has: what a model calls its layers is its own affair."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
