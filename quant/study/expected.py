"""What a codebook does to blocks of independent weights, derived: how often each code occurs, and the mean squared
error.

The largest magnitude m of a block of B weights with the distribution function G of |w| has the distribution function
G^B. The weight that has it becomes +-1 exactly; the other B - 1 are independent, with the density cut off at m. So

    P(code) = [code of +-1] / 2B + (B - 1)/B E_m[P(a m < w <= b m) / P(|w| <= m)]      for the cell [a, b] of the code,
    E(w' - w)^2 = (B - 1)/B E_m[sum over cells of the integral of (w - l m)^2 f(w) / P(|w| <= m)]

(Yoshida 2023, https://arxiv.org/abs/2306.06965, derives the same mixture). The cells' integrals are closed
(`distributions`); the mean over m is a trapezoid rule over the logit of u = G^B, which converges exponentially and
reaches the far tails, where heavy-tailed data has its error. Nothing is fitted, and the quantizer is not asked.
"""

import numpy as np
from scipy import stats

from quant.study.distributions import Array, Distribution
from quant.study.levels import Cells, constructed_sigma

LOGITS = np.linspace(-40.0, 60.0, 801)
"""To 60, for where the squared absmax of Student's t is large enough to count, u is 1 - 1e-20."""


def absmax_nodes(distribution: Distribution, block_size: int) -> tuple[Array, Array]:
    """(magnitudes [n], their probabilities [n], which sum to 1) of the absmax of blocks of `block_size` weights."""
    tail = np.exp(-np.abs(LOGITS))
    weights = tail / (1 + tail) ** 2
    log_u = -np.logaddexp(0.0, -LOGITS)
    return distribution.absmax(-np.expm1(log_u / block_size)), weights / weights.sum()


def mean_absmax(distribution: Distribution, block_size: int) -> float:
    """Expected absmax of a block, in units of the weights."""
    magnitudes, weights = absmax_nodes(distribution, block_size)
    return float(magnitudes @ weights)


def code_probabilities(cells: Cells, distribution: Distribution, block_size: int) -> Array:
    """float64 [16]: how often each code occurs, codes in the order of `cells`."""
    magnitudes, weights = absmax_nodes(distribution, block_size)
    below, _, _ = distribution.moments(magnitudes[:, None] * cells.edges)
    inside = np.diff(below, axis=1) / (below[:, -1:] - below[:, :1])
    largest = np.zeros(len(cells.levels))
    for end in (-1.0, 1.0):
        largest[np.abs(cells.levels - end).argmin()] += 0.5
    probabilities: Array = largest / block_size + (block_size - 1) / block_size * (weights @ inside)
    return probabilities


def relative_mse(cells: Cells, distribution: Distribution, block_size: int) -> float:
    """Mean squared error over the mean square of the weights."""
    magnitudes, weights = absmax_nodes(distribution, block_size)
    m0, m1, m2 = (np.diff(m, axis=1) for m in distribution.moments(magnitudes[:, None] * cells.edges))
    level = magnitudes[:, None] * cells.levels
    error = (m2 - 2 * level * m1 + level**2 * m0).sum(axis=1) / m0.sum(axis=1)
    return float((block_size - 1) / block_size * (weights @ error) / distribution.second_moment)


def density_of_quotients(distribution: Distribution, block_size: int, x: Array) -> Array:
    """Density of w/absmax at `x` within (-1, 1), without the 1/block_size of weights that are +-absmax."""
    magnitudes, weights = absmax_nodes(distribution, block_size)
    inside = 1 - 2 * distribution.density.sf(magnitudes)
    scaled = distribution.density.pdf(magnitudes[:, None] * x) * (magnitudes / inside)[:, None]
    density: Array = (block_size - 1) / block_size * (weights @ scaled)
    return density


def constructed_probabilities(cells: Cells) -> Array:
    """float64 [16]: the codes' probabilities under the normal distribution that NF4 was constructed from, which reaches
    beyond +-1, where the outermost levels take it.
    """
    edges = np.concatenate([[-np.inf], cells.edges[1:-1], [np.inf]])
    probabilities: Array = np.diff(stats.norm.cdf(edges / constructed_sigma()))
    return probabilities


def entropy_bits(probabilities: Array) -> float:
    """Of a distribution (float64 [n], non-negative, normalised here), in bits."""
    p = probabilities[probabilities > 0] / probabilities.sum()
    return float(-(p * np.log2(p)).sum())
