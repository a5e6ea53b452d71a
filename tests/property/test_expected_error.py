"""The mean error on normal weights is what the formats' levels predict: not more, not less, at every block size.

For a block of B independent normal weights the largest magnitude m has the distribution function erf(m / sqrt 2)^B, its
own error is 0, and the other B - 1 weights are independent normals cut off at m. Their mean error, each going to the
nearest level times m, is a sum of closed-form integrals over the levels' cells; the mean over m is a sum over its
quantiles. Nothing is fitted.

A sample's mean is compared with that in units of its own standard error over blocks: 6 of them, which 2^19 weights
exceed by chance once in 10^8 samples, are 0.8 % of the mean at block size 32 and 3 to 4.5 % at 4096.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import pytest
from torch import Tensor

from quant import W8A16, quantize_tensor
from quant.schemes import BLOCK_SIZES, Blockwise
from tests import oracle
from tests.strategies import BLOCKWISE_KINDS, normal

NORMAL = NormalDist()
QUANTILES = 400
SAMPLE = 1 << 19
INT8 = tuple(code / 127 for code in range(-127, 128))
PUBLISHED_NF4 = {
    32: (0.067746, 0.000069),
    64: (0.072798, 0.000074),
    128: (0.076831, 0.000091),
    256: (0.080337, 0.000102),
    512: (0.083547, 0.000143),
    1024: (0.086610, 0.000187),
    2048: (0.089592, 0.000251),
    4096: (0.092547, 0.000360),
}
"""Mean and standard deviation over samples of 2^20 weights, measured by bitsandbytes (tests/test_functional.py, 0.50).
"""


def _cell(low: float, high: float, level: float) -> float:
    """Integral of |x - level| over [low, high] under the normal density, for a level within the cell."""
    below = level * (NORMAL.cdf(level) - NORMAL.cdf(low)) - (NORMAL.pdf(low) - NORMAL.pdf(level))
    above = (NORMAL.pdf(level) - NORMAL.pdf(high)) - level * (NORMAL.cdf(high) - NORMAL.cdf(level))
    return below + above


def _error_below(largest: float, levels: Sequence[float]) -> float:
    """Mean error of a normal weight cut off at `largest`, the absmax of its block."""
    scaled = [level * largest for level in levels]
    edges = [-largest, *((low + high) / 2 for low, high in itertools.pairwise(scaled)), largest]
    cells = zip(itertools.pairwise(edges), scaled, strict=True)
    return sum(_cell(low, high, level) for (low, high), level in cells) / math.erf(largest / math.sqrt(2))


@functools.cache
def expected_error(levels: tuple[float, ...], size: int) -> float:
    """Mean |w - w'| over blocks of `size` standard normal weights."""
    used = sorted({level for level in levels if abs(level) <= 1})
    total = 0.0
    for index in range(QUANTILES):
        below = ((index + 0.5) / QUANTILES) ** (1 / size)
        total += _error_below(NORMAL.inv_cdf((1 + below) / 2), used)
    return (size - 1) / size * total / QUANTILES


def standard_errors_away(error: Tensor, expected: float) -> float:
    """Distance of the mean of `error` [blocks, size] from `expected`, in standard errors over the blocks."""
    means = error.double().mean(dim=1)
    return (means.mean().item() - expected) / (means.std().item() / math.sqrt(len(means)))


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("kind", BLOCKWISE_KINDS)
def test_blockwise_formats_err_as_their_levels_predict(kind: type[Blockwise], block_size: int) -> None:
    weight = normal((SAMPLE // block_size, block_size), seed=block_size)
    error = (quantize_tensor(weight, kind(block_size)).dequantize() - weight).abs()
    assert abs(standard_errors_away(error, expected_error(oracle.LEVELS[kind.name], block_size))) <= 6


@pytest.mark.parametrize("width", [64, 1024])
def test_w8a16_errs_as_its_grid_predicts(width: int) -> None:
    weight = normal((SAMPLE // width, width), seed=width)
    error = (quantize_tensor(weight, W8A16()).dequantize() - weight).abs()
    assert abs(standard_errors_away(error, expected_error(INT8, width))) <= 6


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_the_prediction_is_what_another_implementation_measured(block_size: int) -> None:
    """The derivation above, checked without our quantizer."""
    mean, sigma = PUBLISHED_NF4[block_size]
    assert abs(expected_error(oracle.NF4, block_size) - mean) <= 7 * sigma
