"""What the figures share: their width, rows, legends, and what can be drawn."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 6.6
"""Inches of 72 units: figures are shown at their size or smaller."""
ROW = 0.3
"""Inches for each scheme of a figure with rows."""


def finite(value: float | None) -> bool:
    """Whether there is a number to draw."""
    return value is not None and math.isfinite(value)


def all_finite(values: Sequence[float] | None) -> bool:
    """Whether there are numbers, and all can be drawn."""
    return bool(values) and all(map(finite, values or ()))


def rows(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a row for each label, the first one on top."""
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    return figure, axes


def legend(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """Below the figure, each scheme once and without its error bar."""
    handles, labels = axes.get_legend_handles_labels()
    marks = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    figure.legend(marks, labels, loc="outside lower center", ncols=min(columns, len(labels)), columnspacing=1.2)
