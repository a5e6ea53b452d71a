"""Confidence intervals for paired measurements: a block bootstrap over windows.

The same tokens go through both models, so the difference of their losses is taken token by token and most of the
text's own variation cancels. Neighbouring tokens share their context and neighbouring windows their subject, so
resampling tokens would give intervals that are far too narrow. Windows are resampled instead, in circular blocks
whose length follows from the data's own autocorrelation (Politis and White 2004; Politis and Romano 1992), with the
`arch` package's implementations.

A gate needs tails that no number of resamples gives: `windowed_mean` has the standard error which the same bootstrap
of blocks tends to, in closed form and so without a seed, and the degrees of freedom of the Student t that goes with it.

An interval needs enough windows to resample and finite losses: below `MIN_WINDOWS`, or after a token that a model
held for impossible, there is None rather than a number that looks sure. 95 % is nominal, as for every percentile
bootstrap: on 200 windows with an autocorrelation of 0.6 the interval covered the truth in 89 % of 10,000 simulations.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant.errors import QuantError

MIN_WINDOWS = 20
CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """value with its confidence interval [low, high], or None and in `reason` why there is none."""

    value: float
    interval: tuple[float, float] | None
    reason: str | None = None


def perplexity_ratio(baseline: Tensor, losses: Tensor, window_of_token: Tensor) -> Estimate:
    """perplexity(losses) / perplexity(baseline) on the same tokens, with its 95 % interval.

    Args:
        baseline, losses: float64 [n], nats per token; window_of_token: int64 [n], ascending.

    Raises:
        QuantError: lengths differ.
    """
    _check_paired(baseline, losses)
    mean = bootstrap_mean(losses - baseline, window_of_token)
    interval = None if mean.interval is None else (exp(mean.interval[0]), exp(mean.interval[1]))
    return Estimate(exp(mean.value), interval, mean.reason)


def bootstrap_mean(values: Tensor, window_of_token: Tensor) -> Estimate:
    """Mean over tokens of `values` (float64 [n]) with its 95 % interval from resampled windows.

    Percentile interval of `RESAMPLES` resamples, seeded: the same values give the same interval.
    """
    _check_paired(values, window_of_token)
    sums = window_sums(values, window_of_token).numpy()
    counts = window_sums(torch.ones_like(values), window_of_token).numpy()
    mean = float(sums.sum() / counts.sum())
    if not math.isfinite(mean):
        return Estimate(mean, None, "a token had probability 0")
    if len(sums) < MIN_WINDOWS:
        reason = f"{len(sums)} windows are too few to resample, it takes {MIN_WINDOWS}: pass a longer text or a smaller"
        return Estimate(mean, None, f"{reason} window")
    from arch.bootstrap import CircularBlockBootstrap  # noqa: PLC0415

    resampler = CircularBlockBootstrap(_block_length(sums / counts), sums, counts, seed=SEED)

    def mean_of(resampled_sums: Any, resampled_counts: Any) -> Any:
        return np.array([resampled_sums.sum() / resampled_counts.sum()])

    low, high = resampler.conf_int(mean_of, reps=RESAMPLES, method="percentile", size=CONFIDENCE).ravel()
    return Estimate(mean, (float(low), float(high)))


@dataclass(frozen=True)
class WindowedMean:
    """A mean over tokens, its standard error between windows, and the degrees of freedom of the latter."""

    value: float
    standard_error: float
    degrees_of_freedom: float


def windowed_mean(sums: Tensor, counts: Tensor, block_length: int | None = None) -> WindowedMean:
    """Mean over tokens of what sums to `sums` over windows of `counts` tokens (float64 [n] both, n >= `MIN_WINDOWS`).

    The standard error is the circular block bootstrap's at infinitely many resamples (Politis and Romano 1992): with
    d = sums - mean * counts and D_i the n circular sums of L neighbours of d, Var(sum) = n / L * mean(D_i^2). It is
    made unbiased for the n / L blocks that there are, which leave n / L - 1 degrees of freedom. L is `block_length`, or
    follows from the autocorrelation as for the intervals; at most the cube root of n, for the few blocks that longer
    ones leave say too little about their own spread.

    Raises:
        QuantError: lengths differ, or too few windows.
    """
    _check_paired(sums, counts)
    if len(sums) < MIN_WINDOWS:
        raise QuantError(
            f"{len(sums)} windows are too few for a standard error, it takes {MIN_WINDOWS}: pass a longer text or a "
            "smaller window"
        )
    mean = float(sums.sum() / counts.sum())
    if not math.isfinite(mean):
        return WindowedMean(mean, math.inf, 1.0)
    deviations = sums - mean * counts
    length = block_length or min(_block_length((sums / counts).numpy()), round(len(sums) ** (1 / 3)))
    around = torch.cat([deviations, deviations[: length - 1]]).unfold(0, length, 1).sum(dim=1)
    blocks = len(sums) / length
    variance = blocks * float((around**2).mean()) * blocks / (blocks - 1)
    return WindowedMean(mean, math.sqrt(variance) / float(counts.sum()), blocks - 1)


def exp(value: float) -> float:
    """e to the power of `value`, inf where that is beyond the floats: the perplexity of a broken model."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def window_sums(values: Tensor, window_of_token: Tensor) -> Tensor:
    """Sum of `values` (float64 [tokens]) over each window: float64 [windows]; window_of_token: int64 [tokens]."""
    return torch.zeros(int(window_of_token.max()) + 1, dtype=torch.float64).index_add_(0, window_of_token, values)


def _block_length(series: Any) -> int:
    """Windows that are resampled together, after the autocorrelation of `series` (one float64 a window); at most half
    of them.
    """
    # arch takes a second to import, and only measurements need it.
    from arch.bootstrap import optimal_block_length  # noqa: PLC0415

    with warnings.catch_warnings():
        # Constant differences (a model compared with itself) have no autocorrelation to estimate.
        warnings.simplefilter("ignore", RuntimeWarning)
        block = float(optimal_block_length(series)["circular"].iloc[0])
    return 1 if math.isnan(block) else min(max(1, math.ceil(block)), len(series) // 2)


def _check_paired(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise QuantError(f"paired measurements must cover the same tokens, got {list(a.shape)} and {list(b.shape)}")
