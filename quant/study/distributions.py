"""The data that weights are drawn from, and the moments by which errors on it are derived.

Four symmetric densities around 0, from the lightest tails to the heaviest: uniform on [-1, 1], normal, Laplace, and
Student's t with 5 degrees of freedom, the smallest whole number whose fourth moment exists: with fewer the squared
error of a sample has no variance, and no interval around it means anything. Formats scale with the absmax of each
block, so the width of a density does not matter, only its shape.

Each has its partial moments M_k(x) = integral of t^k f(t) over t <= x, k = 0, 1, 2, in closed form: the squared error
of the cell [a, b] around the level l is the difference of M_2 - 2 l M_1 + l^2 M_0 between b and a, without quadrature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Moments = tuple[Array, Array, Array]
DEGREES_OF_FREEDOM = 5


@dataclass(frozen=True)
class Distribution:
    """name: as in records; title: for readers; density: of scipy.stats, frozen; moments: x -> (M_0, M_1, M_2) at x,
    elementwise.
    """

    name: str
    title: str
    density: Any
    moments: Callable[[Array], Moments]

    @property
    def second_moment(self) -> float:
        """Mean of the squares."""
        return float(self.density.var())

    def absmax(self, exceeded: Array) -> Array:
        """The magnitude that a weight exceeds with probability `exceeded` (elementwise, 0 to 1)."""
        magnitude: Array = self.density.isf(exceeded / 2)
        return magnitude

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """float32 [count] of independent weights; the same for the same name and seed."""
        generator = np.random.default_rng([seed, *self.name.encode()])
        drawn: NDArray[np.float32] = self.density.rvs(count, random_state=generator).astype(np.float32)
        return drawn


def _uniform(x: Array) -> Moments:
    x = np.clip(x, -1, 1)
    return (x + 1) / 2, (x**2 - 1) / 4, (x**3 + 1) / 6


def _normal(x: Array) -> Moments:
    below, density = stats.norm.cdf(x), stats.norm.pdf(x)
    return below, -density, below - x * density


def _laplace(x: Array) -> Moments:
    tail = np.exp(-np.abs(x)) / 2
    left = (tail, (x - 1) * tail, (x**2 - 2 * x + 2) * tail)
    right = (1 - tail, -(x + 1) * tail, 2 - (x**2 + 2 * x + 2) * tail)
    return tuple(np.where(x < 0, low, high) for low, high in zip(left, right, strict=True))  # type: ignore[return-value]


def _student(x: Array) -> Moments:
    """x^2 f(x) is nu (1 + x^2/nu) f(x) - nu f(x), and the first term a t density with nu - 2 degrees of freedom."""
    nu = DEGREES_OF_FREEDOM
    below, density = stats.t.cdf(x, nu), stats.t.pdf(x, nu)
    narrower = stats.t.cdf(x * np.sqrt((nu - 2) / nu), nu - 2)
    return below, -(nu + x**2) / (nu - 1) * density, nu * ((nu - 1) / (nu - 2) * narrower - below)


DISTRIBUTIONS = {
    distribution.name: distribution
    for distribution in (
        Distribution("uniform", "uniform", stats.uniform(-1, 2), _uniform),
        Distribution("normal", "normal", stats.norm(), _normal),
        Distribution("laplace", "Laplace", stats.laplace(), _laplace),
        Distribution(
            "student-t", f"Student t, {DEGREES_OF_FREEDOM} degrees of freedom", stats.t(DEGREES_OF_FREEDOM), _student
        ),
    )
}
