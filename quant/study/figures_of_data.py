"""The figures of levels and synthetic data: each takes the study and gives a matplotlib figure."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from quant.drawing.style import error_bars
from quant.study.chart import BLACK, BLOCK_SIZES, GREY, PALE, STYLES, block_size_axis, new_figure
from quant.study.distributions import DISTRIBUTIONS
from quant.study.expected import density_of_quotients
from quant.study.formats import AFFINE, PLAIN
from quant.study.intervals import decibels
from quant.study.levels import cells, constructed_sigma, reached
from quant.study.records import Error, Study


def draw_levels(study: Study) -> Figure:
    """Levels and bins of each format over the density of w/absmax in blocks of normal weights."""
    block_size = study.settings.block_size
    figure, panels = new_figure(3, 1, 6.2, sharex=True)
    x = np.linspace(-1, 1, 163)[1:-1]
    blocks = density_of_quotients(DISTRIBUTIONS["normal"], block_size, x)
    built = stats.norm.pdf(x, scale=constructed_sigma())
    for axes, name in zip(panels, PLAIN, strict=True):
        style = STYLES[name]
        axes.fill_between(x, blocks, color=PALE, linewidth=0, label=f"normal weights in blocks of {block_size}")
        axes.plot(
            x, built, color=GREY, linestyle="--", linewidth=1, label="the normal distribution NF4 was constructed from"
        )
        edges = cells(name).edges
        axes.vlines(edges, 0, 0.12, color=BLACK, linewidth=0.8, label="bin edges")
        markers, stems, base = axes.stem(reached(name), np.full(len(reached(name)), 0.55), basefmt=" ")
        markers.set(color=style.color, marker=style.marker, markersize=5, label="levels")
        stems.set(color=style.color, linewidth=1.2)
        base.set_visible(False)
        axes.set_title(f"{style.label}: {len(reached(name))} different levels", loc="left")
        axes.set_ylabel("density")
        axes.set_ylim(0, 1.25)
        axes.grid(visible=False)
    panels[0].legend(loc="upper right", fontsize=7.5)
    panels[-1].set_xlabel("weight / absmax of its block")
    panels[-1].set_xlim(-1.03, 1.03)
    return figure


def draw_occupancy(study: Study) -> Figure:
    """How often each code occurs: derived as lines, counted as markers."""
    sizes = shown_sizes(study)
    figure, panels = new_figure(1, 3, 3.3, sharey=True)
    for axes, name in zip(panels, PLAIN, strict=True):
        for size, (shade, marker) in zip(sizes, BLOCK_SIZES, strict=False):
            rows = sorted((c for c in study.codes if (c.format, c.block_size) == (name, size)), key=lambda c: c.rank)
            ranks = [row.rank + 1 for row in rows]
            axes.plot(ranks, [row.derived for row in rows], color=shade, linewidth=1)
            sampled = [row.sampled for row in rows]
            bars = error_bars(sampled, [row.interval for row in rows])
            axes.errorbar(
                ranks,
                sampled,
                yerr=bars,
                color=shade,
                linestyle="none",
                marker=marker,
                markersize=4,
                label=f"blocks of {size}",
            )
        axes.axhline(1 / 16, color=BLACK, linestyle=":", linewidth=1, label="1/16")
        axes.set_title(STYLES[name].label, loc="left")
        axes.set_xlabel("code, ascending by level")
        axes.set_xticks([1, 4, 8, 12, 16])
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("probability of the code")
    panels[0].legend(loc="upper left", fontsize=7.5)
    panels[0].set_ylim(0, 1.25 * max(code.derived for code in study.codes if code.block_size in sizes))
    return figure


def draw_sqnr(study: Study) -> Figure:
    """SQNR by block size on each distribution."""
    figure, panels = new_figure(2, 2, 6.2, sharex=True, sharey=True)
    for axes, (name, distribution) in zip(panels, DISTRIBUTIONS.items(), strict=True):
        for form in (*PLAIN, AFFINE):
            _draw_sqnr(axes, [e for e in study.errors if (e.distribution, e.format) == (name, form)], form)
        axes.set_title(distribution.title, loc="left")
        block_size_axis(axes, list(study.settings.block_sizes))
        axes.tick_params("x", labelsize=8)
    for axes in panels[2:]:
        axes.set_xlabel("weights per block")
    for axes in panels[::2]:
        axes.set_ylabel("SQNR, dB (more is better)")
    panels[3].legend(loc="lower left", fontsize=8)
    return figure


def _draw_sqnr(axes: Axes, rows: list[Error], form: str) -> None:
    """Measured with intervals; what the levels predict as a thin line."""
    style = STYLES[form]
    rows = sorted(rows, key=lambda row: row.block_size)
    sizes, values = [row.block_size for row in rows], decibels(np.array([row.relative_mse for row in rows])).tolist()
    bars = error_bars(values, [sorted(decibels(np.array(row.interval)).tolist()) for row in rows])
    axes.errorbar(
        sizes, values, yerr=bars, color=style.color, marker=style.marker, linestyle=style.dash, label=style.label
    )
    derived = [row.derived for row in rows if row.derived is not None]
    if len(derived) == len(rows):
        axes.plot(sizes, decibels(np.array(derived)), color=BLACK, linewidth=0.6)


def draw_magnitude(study: Study) -> Figure:
    """Error by magnitude of the weight on normal data, and how many weights there are."""
    figure, panels = new_figure(2, 1, 4.8, sharex=True, height_ratios=[3, 1.2])
    for name in PLAIN:
        style = STYLES[name]
        rows = [m for m in study.magnitudes if (m.distribution, m.format) == ("normal", name)]
        centres = [(row.low + row.high) / 2 for row in rows]
        rmse = [row.rmse for row in rows]
        bars = error_bars(rmse, [row.interval for row in rows])
        panels[0].errorbar(
            centres, rmse, yerr=bars, color=style.color, marker=style.marker, linestyle=style.dash, label=style.label
        )
    panels[1].bar(centres, [100 * row.share for row in rows], width=1 / 16, color=PALE)
    panels[0].set_ylabel("RMS error / absmax")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(loc="upper left", fontsize=8)
    panels[1].set_ylabel("weights, %")
    panels[1].set_xlabel(f"|weight| / absmax of its block, normal data in blocks of {study.settings.block_size}")
    panels[1].set_xlim(0, 1)
    return figure


def shown_sizes(study: Study) -> list[int]:
    """Up to three block sizes: the first, the one of single figures, the last."""
    sizes = study.settings.block_sizes
    return sorted({sizes[0], study.settings.block_size, sizes[-1]})
