"""Errors of the formats on synthetic data, measured: the quantizer itself, on independent samples.

A sample is one weight of `Settings.weights` numbers; every format and block size gets the same samples. What is kept of
each is sums, so that ratios are of sums over samples, and the bootstrap over samples resamples exactly what is
independent. Double quantization shares a scale between 256 blocks, of which a sample has that many only up to blocks of
1024 weights.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from quant.study import expected
from quant.study.distributions import DISTRIBUTIONS, Array, Distribution
from quant.study.formats import FORMATS, PLAIN, Restored, absmax_like, int4_like, restore
from quant.study.intervals import decibels, interval
from quant.study.levels import cells
from quant.study.records import Error, Magnitude
from quant.study.settings import Settings

MAGNITUDE_EDGES = tuple(k / 14 for k in range(15))
"""Of the bins of |w|/absmax: half the cells of int4, whose error in each is that of any other bin on flat data."""
Advance = Callable[[], object]
Key = tuple[str, int]
"""A format and a block size."""


def square_sum(values: Tensor) -> float:
    """Of float32 values, added in float64."""
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def measure_errors(settings: Settings, advance: Advance) -> tuple[list[Error], list[Magnitude]]:
    """The errors on every distribution; `advance` is called after each sample."""
    errors: list[Error] = []
    magnitudes: list[Magnitude] = []
    for distribution in DISTRIBUTIONS.values():
        table = _Table(settings)
        for seed in range(settings.seeds):
            table.add(torch.from_numpy(distribution.sample(settings.weights, seed)))
            advance()
        errors += table.errors(distribution)
        magnitudes += table.magnitudes(distribution)
    return errors, magnitudes


class _Table:
    """Sums over each sample of one distribution."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys: list[Key] = list(itertools.product(FORMATS, settings.block_sizes))
        self._signals: list[float] = []
        self._noises: dict[Key, list[float]] = {key: [] for key in self._keys}
        self._bits: dict[Key, float] = {}
        self._largest: dict[Key, float] = dict.fromkeys(self._keys, 0.0)
        self._bins: dict[str, list[Array]] = {name: [] for name in PLAIN}
        self._counts: list[Array] = []

    def add(self, weight: Tensor) -> None:
        """weight: float32 [settings.weights], another sample."""
        self._signals.append(square_sum(weight))
        for block_size in self._settings.block_sizes:
            absmax = weight.view(-1, block_size).abs().amax(dim=1)
            for name in FORMATS:
                restored = restore(weight, name, block_size)
                self._add_errors(weight, absmax, (name, block_size), restored)
            if block_size == self._settings.block_size:
                self._add_bins(weight, absmax)

    def _add_errors(self, weight: Tensor, absmax: Tensor, key: Key, restored: Restored) -> None:
        error = restored.values - weight
        self._noises[key].append(square_sum(error))
        self._bits[key] = restored.bits
        largest = error.view(-1, key[1]).abs().amax(dim=1) / absmax
        self._largest[key] = max(self._largest[key], float(largest.max()))

    def _add_bins(self, weight: Tensor, absmax: Tensor) -> None:
        """Squared errors relative to absmax, summed over the weights of each bin of |w|/absmax."""
        block_size = self._settings.block_size
        quotient = (weight.view(-1, block_size) / absmax[:, None]).abs().flatten()
        bins = torch.bucketize(quotient, torch.tensor(MAGNITUDE_EDGES[1:-1]), right=True)
        count = len(MAGNITUDE_EDGES) - 1
        self._counts.append(torch.bincount(bins, minlength=count).double().numpy())
        for name in PLAIN:
            error = restore(weight, name, block_size).values - weight
            square = (error.view(-1, block_size) / absmax[:, None]).flatten().double().square()
            self._bins[name].append(torch.bincount(bins, weights=square, minlength=count).numpy())

    def errors(self, distribution: Distribution) -> Iterator[Error]:
        """The records, block sizes within formats."""
        noises = np.array([self._noises[key] for key in self._keys]).T
        int4 = [self._keys.index((int4_like(name), block_size)) for name, block_size in self._keys]
        resamples = self._settings.resamples
        # All at once: a resample of the samples serves every format and block size.
        mse, mse_bounds = _estimate(_ratio, resamples, noises, np.array(self._signals)[:, None])
        above, above_bounds = _estimate(against, resamples, noises, noises[:, int4])
        absmax = [self._keys.index((absmax_like(name), block_size)) for name, block_size in self._keys]
        gain, gain_bounds = _estimate(against, resamples, noises, noises[:, absmax])
        for index, (name, block_size) in enumerate(self._keys):
            is_absmax = absmax[index] == index
            is_int4 = int4[index] == index
            yield Error(
                distribution=distribution.name,
                format=name,
                block_size=block_size,
                bits=self._bits[name, block_size],
                derived=expected.relative_mse(cells(name), distribution, block_size) if name in PLAIN else None,
                relative_mse=mse[index],
                interval=mse_bounds[index],
                largest=self._largest[name, block_size],
                against_int4=None if is_int4 else above[index],
                against_int4_interval=None if is_int4 else above_bounds[index],
                against_absmax=None if is_absmax else gain[index],
                against_absmax_interval=None if is_absmax else gain_bounds[index],
            )

    def magnitudes(self, distribution: Distribution) -> Iterator[Magnitude]:
        """The records of the single block size, bins within formats."""
        counts = np.array(self._counts)
        for name in PLAIN:
            rmse, bounds = _estimate(_rmse, self._settings.resamples, np.array(self._bins[name]), counts)
            for index, (low, high) in enumerate(itertools.pairwise(MAGNITUDE_EDGES)):
                yield Magnitude(
                    distribution=distribution.name,
                    format=name,
                    block_size=self._settings.block_size,
                    low=low,
                    high=high,
                    share=float(counts[:, index].sum() / counts.sum()),
                    rmse=rmse[index],
                    interval=bounds[index],
                )


def _estimate(
    statistic: Callable[..., Array], resamples: int, *data: Array
) -> tuple[list[float], list[tuple[float, float]]]:
    """`statistic` of `data` and its intervals."""
    low, high = interval(statistic, resamples, *data).tolist()
    return statistic(*data).tolist(), list(zip(low, high, strict=True))


def _ratio(noise: Array, signal: Array) -> Array:
    """[k] from [samples, k] and [samples, k or 1]."""
    ratio: Array = noise.sum(axis=0) / signal.sum(axis=0)
    return ratio


def against(noise: Array, other: Array) -> Array:
    """[k]: SQNR in dB above that of the `other` noise on the same samples."""
    return decibels(_ratio(noise, other))


def _rmse(squares: Array, counts: Array) -> Array:
    """[bins] from [samples, bins] each; 0 where a bin is empty."""
    total = counts.sum(axis=0)
    rmse: Array = np.sqrt(squares.sum(axis=0) / np.where(total > 0, total, 1.0))
    return rmse
