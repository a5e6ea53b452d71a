"""The figures of the model's weights and of the model. Each takes the study and gives a matplotlib figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quant.drawing.style import error_bars
from quant.study.chart import BLACK, BLOCK_SIZES, STYLES, block_size_axis, new_figure
from quant.study.figures_of_data import shown_sizes
from quant.study.formats import PLAIN
from quant.study.records import Study


def draw_layers(study: Study) -> Figure:
    """SQNR of NF4 minus int4's in every layer."""
    names = list(dict.fromkeys(layer.layer for layer in study.layers))
    figure, (axes,) = new_figure(1, 1, 1.6 + 0.2 * len(names))
    for offset, (size, (shade, marker)) in enumerate(zip(shown_sizes(study), BLOCK_SIZES, strict=False)):
        rows = {layer.layer: layer for layer in study.layers if layer.block_size == size}
        values = [rows[name].nf4_minus_int4 for name in names]
        bars = error_bars(values, [rows[name].interval for name in names])
        places = np.arange(len(names)) + 0.22 * (offset - 1)
        axes.errorbar(
            values, places, xerr=bars, color=shade, marker=marker, linestyle="none", label=f"blocks of {size}"
        )
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set_yticks(range(len(names)), [name.removeprefix("model.") for name in names], fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("SQNR of NF4 minus SQNR of int4, dB (right of 0: NF4 loses less)")
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    return figure


def draw_model(study: Study) -> Figure:
    """Perplexity ratio and KL divergence by what a format stores."""
    figure, (ratio, divergence) = new_figure(1, 2, 4.0)
    for shift, (form, style) in zip((0.94, 0.98, 1.02, 1.06), STYLES.items(), strict=True):
        rows = sorted((m for m in study.models if m.format == form), key=lambda m: m.bits)
        # Beside each other, as their intervals would hide each other.
        places = [(row.bits - 4) * shift for row in rows]
        look = {"color": style.color, "marker": style.marker, "linestyle": style.dash, "label": style.label}
        _bars(ratio, places, [row.ratio for row in rows], [row.ratio_interval for row in rows], look)
        _bars(divergence, places, [row.kl for row in rows], [row.kl_interval for row in rows], look)
    ratio.axhline(1, color=BLACK, linewidth=1)
    ratio.set_ylabel("perplexity / the float model's")
    divergence.set_ylabel("KL divergence from the float model, nats per token")
    divergence.set_ylim(bottom=0)
    for axes in (ratio, divergence):
        axes.set_xscale("log", base=2)
        overheads = [2.0**power for power in range(-7, 2)]
        axes.set_xticks(overheads, [f"{4 + overhead:.4g}" for overhead in overheads], fontsize=7.5)
        axes.minorticks_off()
        axes.set_xlabel("bits stored per quantized weight")
    figure.legend(*ratio.get_legend_handles_labels(), loc="outside upper center", ncols=len(STYLES), fontsize=8)
    return figure


def _bars(
    axes: Axes, x: list[float], values: list[float], intervals: Sequence[Sequence[float] | None], look: dict[str, str]
) -> None:
    """With intervals where there are any."""
    axes.errorbar(x, values, yerr=error_bars(values, intervals), capsize=2, **look)  # type: ignore[arg-type]


def draw_speed(study: Study) -> Figure:
    """Decode speed over the float model's, every round a point, medians joined."""
    figure, (axes,) = new_figure(1, 1, 3.3)
    for shift, name in zip((0.96, 1.0, 1.04), PLAIN, strict=True):
        style = STYLES[name]
        rows = sorted((s for s in study.speeds if s.format == name), key=lambda s: s.block_size)
        for row in rows:
            places = [row.block_size * shift] * len(row.over_float)
            axes.plot(
                places,
                row.over_float,
                color=style.color,
                marker=style.marker,
                linestyle="none",
                alpha=0.35,
                markersize=3,
            )
        medians = [float(np.median(row.over_float)) for row in rows]
        axes.plot(
            [row.block_size * shift for row in rows],
            medians,
            color=style.color,
            marker=style.marker,
            linestyle=style.dash,
            label=style.label,
        )
    axes.axhline(1, color=BLACK, linewidth=1)
    block_size_axis(axes, list(study.settings.block_sizes))
    axes.set_xlabel("weights per block")
    axes.set_ylabel("decode speed / the float model's")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", ncols=3, fontsize=8)
    return figure
