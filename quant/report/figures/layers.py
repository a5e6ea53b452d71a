"""The error of each quantized layer's weight: a panel for each kind of layer, over the blocks of the model."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from quant.drawing.style import drawable, look
from quant.layer_names import layer_block, layer_kinds
from quant.records import Comparison
from quant.report.figures.drawing import WIDTH, finite, legend

MOST_PANELS = 12
"""More kinds of layers than that are left to the JSON file."""


def layers_by_kind(comparison: Comparison) -> dict[str, list[str]]:
    """Kind -> the names of the layers whose error was measured."""
    kinds: dict[str, list[str]] = {}
    for name, kind in layer_kinds(name for result in comparison.measured for name in result.layer_sqnr).items():
        kinds.setdefault(kind, []).append(name)
    return kinds


def error_by_layer(comparison: Comparison) -> Figure | None:
    """SQNR in dB over the number of the block."""
    drawn = [r for r in comparison.measured if any(map(finite, r.layer_sqnr.values()))]
    if not drawn:
        return None
    kinds = dict(list(layers_by_kind(comparison).items())[:MOST_PANELS])
    columns = min(len(kinds), 2 if len(kinds) <= 4 else 3)
    count = -(-len(kinds) // columns)
    figure = Figure(figsize=(WIDTH, 1.2 + 1.9 * count), layout="constrained")
    panels = figure.subplots(count, columns, sharey=True, squeeze=False)
    for axes, (kind, names) in zip(panels.flat, kinds.items(), strict=False):
        for result in drawn:
            # A projection that was initialised with zeros, or weights that were quantized before, have no error: an
            # infinite SQNR. That may be all that a scheme has in a panel, which then still names it.
            points = [(layer_block(n), v) for n, v in result.layer_sqnr.items() if n in names and finite(v)]
            places, values = [place for place, _ in points], [value for _, value in points]
            axes.plot(places, values, linewidth=1.2, label=result.scheme, **look(result.scheme, 5))
        axes.set_title(drawable(kind)[-28:])
        blocks = [layer_block(name) for name in names]
        axes.set_xlim(min(blocks) - 0.5, max(blocks) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    for axes in panels.flat[len(kinds) :]:
        axes.set_visible(False)
    figure.supylabel("SQNR in dB (higher is better)", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("block")
    legend(figure, panels.flat[0])
    return figure
