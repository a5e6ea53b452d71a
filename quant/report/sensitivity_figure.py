"""The figure of `quant sensitivity`: the layers by the KL divergence of each quantized alone, with its 95 % interval.

matplotlib draws it, imported when a figure is asked for, without a display and without touching the settings of the
process. The scale is logarithmic, because layers differ by orders of magnitude; what is infinite or not above 0 has no
place on it.
"""

import io
import math
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.schemes import Scheme
from quant.sensitivity import Sensitivities

FORMATS = (".png", ".svg")
INCHES_PER_LAYER = 0.18
DPI = 120


def check_figure(path: Path) -> None:
    """Raises:
    QuantError: another kind of file than `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise QuantError(f"--figure {path}: name a file that ends in {' or '.join(FORMATS)}")


def sensitivity_figure(measured: Sensitivities, suffix: str) -> bytes:
    """The content of a file of the kind `suffix` (one of `FORMATS`); the same measurements give the same bytes with one
    version of matplotlib.
    """
    import matplotlib  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    schemes = list(dict.fromkeys(one.scheme for one in measured.layers))
    layers = len(measured.layers) // len(schemes)
    figure = Figure(figsize=(8, 1.2 + INCHES_PER_LAYER * layers * max(1, len(schemes) / 2)), layout="constrained")
    axes = figure.subplots()
    _draw(axes, measured, schemes)
    buffer = io.BytesIO()
    vector = suffix.lower() == ".svg"
    with matplotlib.rc_context({"svg.hashsalt": "quant", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=suffix.lower()[1:], dpi=DPI, metadata={"Date": None} if vector else None)
    return buffer.getvalue()


def _draw(axes: Any, measured: Sensitivities, schemes: list[Scheme]) -> None:
    """A point with its interval for each layer and scheme; the layers in the order of the first scheme."""
    names = [one.name for one in measured.layers if one.scheme == schemes[0]]
    for index, scheme in enumerate(schemes):
        offset = (index - (len(schemes) - 1) / 2) * 0.3
        found = [one for one in measured.layers if one.scheme == scheme and 0 < one.accuracy.kl.value < math.inf]
        values = [one.accuracy.kl.value for one in found]
        ends = [one.accuracy.kl.interval or (one.accuracy.kl.value, one.accuracy.kl.value) for one in found]
        low = [max(0.0, value - end[0]) for value, end in zip(values, ends, strict=True)]
        high = [max(0.0, end[1] - value) for value, end in zip(values, ends, strict=True)]
        places = [names.index(one.name) + offset for one in found]
        axes.errorbar(values, places, xerr=[low, high], fmt="o", markersize=4, capsize=2, label=str(scheme))
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("KL divergence from the float model, nats per token, 95 % interval")
    axes.set_title(f"{measured.model}: each layer quantized alone", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)
