"""The figure of `quant sensitivity`: the layers by the KL divergence of each quantized alone, with its 95 % interval.

The scale is logarithmic, because layers differ by orders of magnitude; what is infinite or not above 0 has no place on
it: matplotlib leaves out the one and would make room for the other. Only who draws it imports this module: matplotlib
takes a second.
"""

import io

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from quant.drawing.palette import LIGHT, LOOKS
from quant.drawing.style import drawable, drawing, error_bars, look
from quant.drawing.svg import svg_file
from quant.schemes import Blockwise, Scheme
from quant.sensitivity import Sensitivities

INCHES_PER_LAYER = 0.18
DPI = 120


def sensitivity_figure(measured: Sensitivities, suffix: str) -> bytes:
    """The content of a file of the kind `suffix` (".svg" or ".png"); the same measurements give the same bytes with one
    version of matplotlib.
    """
    with drawing():
        figure = divergence_by_layer(measured)
        if suffix.lower() == ".svg":
            return svg_file(figure).encode()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor=LIGHT["page"])
    return buffer.getvalue()


def divergence_by_layer(measured: Sensitivities) -> Figure:
    """A point with its interval for each layer and scheme; the layers in the order of the first scheme."""
    schemes = list(dict.fromkeys(one.scheme for one in measured.layers))
    layers = len(measured.layers) // len(schemes)
    figure = Figure(figsize=(8, 1.4 + INCHES_PER_LAYER * layers * max(1, len(schemes) / 2)), layout="constrained")
    axes = figure.subplots()
    names = [one.name for one in measured.layers if one.scheme == schemes[0]]
    for index, scheme in enumerate(schemes):
        offset = (index - (len(schemes) - 1) / 2) * 0.3
        found = [one for one in measured.layers if one.scheme == scheme and one.accuracy.kl.value > 0]
        values = [one.accuracy.kl.value for one in found]
        bars = error_bars(values, [one.accuracy.kl.interval for one in found])
        places = [names.index(one.name) + offset for one in found]
        style = look(_variant(scheme), 5)
        axes.errorbar(values, places, xerr=bars, linestyle="", capsize=2, label=measured.labels[scheme], **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:.0e}")  # matplotlib's own is a formula
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(names)), [drawable(name) for name in names], fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("KL divergence from the float model, nats per token, 95 % interval")
    axes.set_title(f"{drawable(measured.model)}: each layer quantized alone")
    figure.legend(loc="outside lower center", ncols=len(schemes), fontsize=8)
    return figure


def _variant(scheme: Scheme) -> str:
    """Whose look it has."""
    name = f"{scheme.name}-dq" if isinstance(scheme, Blockwise) and scheme.double_quant else scheme.name
    return name if name in LOOKS else scheme.name
