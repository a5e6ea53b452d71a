"""Nominal 95 % intervals from resampling what is independent: samples of synthetic data, blocks of a layer.

What is resampled together stays together: the formats see the same samples, so their difference is far better known
than either. The bootstrap is `arch`'s, as in `quant.evaluate.statistics`, and seeded: the same data gives the same
interval.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from quant.study.distributions import Array

SEED = 0
CONFIDENCE = 0.95
Ratio = TypeVar("Ratio", float, Array)


def interval(statistic: Callable[..., Array], resamples: int, *data: Array) -> Array:
    """float64 [2, k]: low and high of `statistic`, which gets the arrays in `data` (all [n, ...]) with their rows drawn
    n times with replacement, and gives float64 [k].
    """
    from arch.bootstrap import IIDBootstrap  # noqa: PLC0415  # takes a second to import

    resampler = IIDBootstrap(*data, seed=SEED)

    def flat(*resampled: Any) -> Array:
        return np.atleast_1d(statistic(*resampled))

    bounds: Array = resampler.conf_int(flat, reps=resamples, method="percentile", size=CONFIDENCE)
    return bounds


def decibels(ratio: Ratio) -> Ratio:
    """SQNR in dB of a relative squared error, or of an array of them."""
    db: Ratio = -10 * np.log10(ratio)
    return db
