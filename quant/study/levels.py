"""The levels of a codebook in ascending order, and the cell of quotients w/absmax that each is nearest to.

NF4's construction (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3; `create_normal_map` of
bitsandbytes) is repeated here, to say which normal distribution the levels are quantiles of: 0, 8 quantiles above it
and 7 below, the outermost with the probability `OFFSET`, divided by the largest. The asymmetry buys an exact zero.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from quant.codebooks import LEVELS
from quant.study.distributions import Array

OFFSET = (1 - 1 / 32 + 1 - 1 / 30) / 2
"""The probability below NF4's outermost quantile: the mean of what 16 and 15 equal halves would leave."""


@dataclass(frozen=True)
class Cells:
    """codes: of the 16 levels, ascending; levels: float64 [16]; edges: float64 [17], those of each level's cell, from
    -1 to 1. The cell of a level that no quotient reaches is empty.
    """

    codes: tuple[int, ...]
    levels: Array
    edges: Array


def cells(codebook: str) -> Cells:
    """The cells of "nf4", "fp4" or "int4"."""
    levels = LEVELS[codebook]
    codes = tuple(sorted(range(len(levels)), key=levels.__getitem__))
    ascending = np.array([levels[code] for code in codes])
    return Cells(codes, ascending, edges_between(ascending))


def edges_between(levels: Array) -> Array:
    """float64 [n + 1] for n ascending levels: the midpoints, cut off at -1 and 1."""
    edges: Array = np.clip(np.concatenate([[-1.0], (levels[:-1] + levels[1:]) / 2, [1.0]]), -1.0, 1.0)
    return edges


def reached(codebook: str) -> list[float]:
    """The different levels within [-1, 1], ascending: those that a weight can become."""
    return sorted({level for level in LEVELS[codebook] if abs(level) <= 1})


def constructed_levels() -> Array:
    """float64 [16]: NF4 by its construction, which the published constants repeat to 2e-7."""
    return _quantiles() / float(stats.norm.ppf(OFFSET))


def constructed_sigma() -> float:
    """The standard deviation, in units of absmax, of the normal distribution whose quantiles NF4's levels are."""
    return 1 / float(stats.norm.ppf(OFFSET))


def _quantiles() -> Array:
    above = stats.norm.ppf(np.linspace(OFFSET, 0.5, 9)[:-1])
    below = -stats.norm.ppf(np.linspace(OFFSET, 0.5, 8)[:-1])
    return np.sort(np.concatenate([above, [0.0], below]))
