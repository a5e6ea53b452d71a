"""What quantizing costs in accuracy: beside the size that it saves, over the tokens, and over positions."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from quant.drawing.palette import LIGHT
from quant.drawing.style import MARKER, error_bars, look
from quant.records import Comparison, Result
from quant.report.figures.drawing import WIDTH, all_finite, finite, legend, rows


def accuracy_against_size(comparison: Comparison) -> Figure | None:
    """The change of the perplexity in percent, with its interval, over the footprint in MB."""
    drawn = [r for r in comparison.measured[1:] if finite(r.perplexity_ratio) and finite(r.footprint_bytes)]
    if not drawn:
        return None
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    baseline = comparison.results[0]
    axes.axhline(0, color=LIGHT["muted"], linewidth=1)
    if baseline.footprint_bytes is not None:
        axes.plot([baseline.footprint_bytes / 1e6], [0], linestyle="", label="baseline", **look("baseline"))
    for result in drawn:
        change, style = _percent(result.perplexity_ratio), look(result.scheme)
        interval = result.perplexity_ratio_ci
        ends = None if interval is None else [_percent(end) for end in interval]
        axes.errorbar(
            [(result.footprint_bytes or 0) / 1e6],
            [change],
            yerr=error_bars([change], [ends]),
            capsize=3,
            elinewidth=1.4,
            linestyle="",
            label=result.scheme,
            **style,
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("footprint in MB")
    axes.set_ylabel("perplexity change in %")
    legend(figure, axes)
    return figure


def _percent(ratio: float | None) -> float:
    assert ratio is not None
    return 100 * (ratio - 1)


def loss_differences(comparison: Comparison) -> Figure | None:
    """The quantiles over tokens of the loss above the baseline's, a row for each scheme."""
    drawn = [
        r
        for r in comparison.measured[1:]
        if r.loss_difference_quantiles and all(map(finite, r.loss_difference_quantiles.values()))
    ]
    if not drawn:
        return None
    figure, axes = rows([r.scheme for r in drawn])
    for row, result in enumerate(drawn):
        values = result.loss_difference_quantiles
        style = look(result.scheme)
        for (low, high), width in ((("0.01", "0.99"), 1.2), (("0.05", "0.95"), 4), (("0.25", "0.75"), 9)):
            span = [values[low], values[high]]
            axes.plot(span, [row, row], color=style["color"], linewidth=width, solid_capstyle="butt", zorder=2)
        median = {"markersize": MARKER, "markerfacecolor": LIGHT["page"], "markeredgecolor": LIGHT["ink"], "zorder": 4}
        axes.plot([values["0.5"]], [row], **{**style, **median})
    axes.axvline(0, color=LIGHT["muted"], linewidth=1)
    _symmetric_logarithmic(axes, drawn)
    axes.set_xlabel("loss above the baseline's in nats (right of 0 is worse)")
    return figure


def _symmetric_logarithmic(axes: Axes, results: Sequence[Result]) -> None:
    """Linear about 0, then logarithmic, as differences of int8 are a tenth of those of 4 bits; powers of ten are ticks.
    Left linear where some scheme is the baseline itself.
    """
    smallest = min(abs(r.loss_difference_quantiles[level]) for r in results for level in ("0.25", "0.75"))
    largest = max(abs(value) for r in results for value in r.loss_difference_quantiles.values())
    if not smallest:
        return
    first, last = math.floor(math.log10(smallest)), math.floor(math.log10(largest))
    powers = [10.0**exponent for exponent in range(first, last + 1)]
    axes.set_xscale("symlog", linthresh=powers[0], linscale=0.5)
    axes.set_xlim(-1.3 * largest, 1.3 * largest)
    ticks = [*(-power for power in reversed(powers)), 0.0, *powers]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def loss_by_position(comparison: Comparison) -> Figure | None:
    """The mean loss of the baseline, and what each scheme adds to it, over the position in the window."""
    bins = comparison.positions
    baseline = comparison.results[0]
    drawn = [r for r in comparison.measured[1:] if all_finite(r.loss_difference_by_position)]
    if len(bins) < 2 or not drawn or not all_finite(baseline.loss_by_position):
        return None
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 3))
    places = range(len(bins))
    upper.plot(places, baseline.loss_by_position, **look("baseline"))
    upper.set_ylabel("baseline's loss\nin nats")
    lower.axhline(0, color=LIGHT["muted"], linewidth=1)
    for result in drawn:
        lower.plot(
            places, result.loss_difference_by_position, linewidth=1.2, label=result.scheme, **look(result.scheme)
        )
    lower.set_ylabel("loss above the baseline's\nin nats")
    lower.set_xticks(places, [str(b.last) if b.first == b.last else f"{b.first}-{b.last}" for b in bins])
    lower.set_xlabel("position in the window (tokens of context)")
    legend(figure, lower)
    return figure
