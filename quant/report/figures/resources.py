"""What the schemes take: memory by dtype, and time as tokens per second."""

from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from quant.drawing.palette import DTYPES, LIGHT, LOOKS, OTHER_DTYPE
from quant.records import Comparison, Result
from quant.report.figures.drawing import ROW, WIDTH, finite, legend, rows


def memory_by_dtype(comparison: Comparison) -> Figure | None:
    """MiB of parameters and buffers of each dtype, stacked, a row for each scheme."""
    results = [result for result in comparison.measured if result.bytes_by_dtype]
    if not results:
        return None
    figure, axes = rows([result.scheme for result in results])
    figure.set_figheight(1.3 + ROW * len(results))
    starts = [0.0] * len(results)
    for dtype in dict.fromkeys(dtype for result in results for dtype in result.bytes_by_dtype):
        colour, hatch = DTYPES.get(dtype, OTHER_DTYPE)
        sizes = [result.bytes_by_dtype.get(dtype, 0) / 2**20 for result in results]
        axes.barh(
            range(len(results)),
            sizes,
            left=starts,
            height=0.7,
            color=LIGHT[colour],
            edgecolor=LIGHT["page"],
            hatch=hatch,
            label=dtype,
        )
        starts = [start + size for start, size in zip(starts, sizes, strict=True)]
    axes.set_xlabel("MiB")
    legend(figure, axes)
    return figure


def tokens_per_second(comparison: Comparison) -> Figure | None:
    """Decoding and prefill speed, a row for each scheme."""
    panels: tuple[tuple[str, Callable[[Result], float | None]], ...] = (
        ("decode, tokens/s", lambda r: r.tokens_per_second),
        ("prefill, tokens/s", lambda r: r.prefill_tokens_per_second),
    )
    panels = tuple(panel for panel in panels if any(finite(panel[1](r)) for r in comparison.measured))
    if not panels:
        return None
    results = comparison.measured
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * len(results)), layout="constrained")
    for axes, (title, value) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        speeds = [speed if (speed := value(result)) is not None and finite(speed) else 0.0 for result in results]
        colours = [LIGHT[LOOKS[result.scheme].colour] for result in results]
        bars = axes.barh(range(len(results)), speeds, height=0.7, color=colours)
        axes.bar_label(bars, [f"{speed:,.0f}" if speed else "" for speed in speeds], padding=3)
        axes.set_xlim(right=1.22 * max(speeds))
        axes.set_xlabel(title)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_yticks(range(len(results)), [result.scheme for result in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    return figure
