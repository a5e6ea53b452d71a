"""Where a model loses: its losses per token as few numbers that can be kept and drawn, instead of one for every token.

| view | numbers | says |
|---|---|---|
| quantiles of the difference to the baseline | `LEVELS` | whether few tokens pay for quantizing, or all do |
| mean by position in the window | one for each doubling of the context | whether it costs more with little context |
| mean of each window | one for each window | what pairs two runs on the same tokens (`quant.diff`) |

Position counts the tokens of the text that the model has seen before the one it predicts, without BOS: 1 for the first
prediction of a window. Bins double, as losses fall with the logarithm of the context: 1, 2, 3 to 4, 5 to 8, ...

A token that a model holds for impossible has an infinite loss, which makes the means and quantiles that it enters
infinite or undefined (NaN): they are what they are.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from quant.evaluate.divergence import Measurement
from quant.evaluate.statistics import window_sums
from quant.evaluate.windows import TokenWindows

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class PositionBin:
    """The scored tokens at positions `first` to `last` of their windows, inclusive, and how many there are."""

    first: int
    last: int
    tokens: int


@dataclass(frozen=True)
class LossProfile:
    """The views of one model, in nats per token; without differences and KL for the baseline itself.

    Attributes:
        window_losses, window_kl: means of each window.
        loss_by_position, loss_difference_by_position: means of each of `position_bins`, of the loss and of what it is
            above the baseline's.
        loss_difference_quantiles: level -> quantile over tokens of that difference.
    """

    window_losses: tuple[float, ...]
    loss_by_position: tuple[float, ...]
    window_kl: tuple[float, ...] | None = None
    loss_difference_by_position: tuple[float, ...] | None = None
    loss_difference_quantiles: dict[str, float] = field(default_factory=dict)


def loss_profile(baseline: Measurement, measured: Measurement, windows: TokenWindows) -> LossProfile:
    """The profile of `measured`, which was measured against `baseline` on `windows`, or is it."""
    window_losses = window_means(measured.losses, windows.window_of_token)
    by_position = means_by_position(measured.losses, windows)
    if measured.kl is None:
        return LossProfile(window_losses, by_position)
    difference = measured.losses - baseline.losses
    return LossProfile(
        window_losses,
        by_position,
        window_means(measured.kl, windows.window_of_token),
        means_by_position(difference, windows),
        quantiles(difference),
    )


def position_bins(windows: TokenWindows) -> tuple[PositionBin, ...]:
    """The bins, none of them empty: the first window has every position up to the longest."""
    counts = torch.bincount(_bin_of_token(windows)).tolist()
    longest = int(windows.position_of_token.max())
    return tuple(
        PositionBin(2**exponent // 2 + 1, min(2**exponent, longest), count) for exponent, count in enumerate(counts)
    )


def means_by_position(values: Tensor, windows: TokenWindows) -> tuple[float, ...]:
    """The mean over each of `position_bins` of values: float64 [N - 1]."""
    bins = _bin_of_token(windows)
    return tuple((window_sums(values, bins) / torch.bincount(bins)).tolist())


def _bin_of_token(windows: TokenWindows) -> Tensor:
    """int64 [N - 1]: the exponent of the smallest power of two that is not below the position."""
    # frexp is exact, where the logarithm of a power of two need not be.
    return torch.frexp((windows.position_of_token - 1).double()).exponent.long()


def window_means(values: Tensor, window_of_token: Tensor) -> tuple[float, ...]:
    """The mean over the tokens of each window of values: float64 [N - 1]."""
    return tuple((window_sums(values, window_of_token) / torch.bincount(window_of_token)).tolist())


def quantiles(values: Tensor) -> dict[str, float]:
    """Those at `LEVELS` of values (float64 [n]): level, as in "0.05" -> value."""
    # torch.quantile takes no more than 2^24 values. Beside an infinity it gives NaN.
    with np.errstate(invalid="ignore"):
        found = np.quantile(values.numpy(), LEVELS)
    return {f"{level:g}": float(value) for level, value in zip(LEVELS, found, strict=True)}
