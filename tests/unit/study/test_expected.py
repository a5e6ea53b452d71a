"""What is derived, against other derivations and against what the quantizer does.

On uniform data int4 is the textbook's uniform quantizer. The integrals are taken a second time by scipy's quadrature,
and the codes are counted in samples of the quantizer.
"""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from quant.codebooks import NF4_LEVELS
from quant.schemes import BLOCK_SIZES
from quant.study.distributions import DISTRIBUTIONS, Array
from quant.study.expected import (
    code_probabilities,
    constructed_probabilities,
    density_of_quotients,
    entropy_bits,
    mean_absmax,
    relative_mse,
)
from quant.study.formats import PLAIN, restore
from quant.study.levels import cells, constructed_levels
from quant.study.occupancy import count_codes

NORMAL, UNIFORM = DISTRIBUTIONS["normal"], DISTRIBUTIONS["uniform"]


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_int4_on_uniform_data_is_the_uniform_quantizer(block_size: int) -> None:
    """step^2 / 12 with step = absmax/7 for all weights but the largest; E absmax^2 = B / (B + 2), E w^2 = 1/3."""
    expected = (block_size - 1) / block_size * block_size / (block_size + 2) / 7**2 / 12 / (1 / 3)
    assert relative_mse(cells("int4"), UNIFORM, block_size) == pytest.approx(expected, rel=1e-7)  # levels are float32


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_partial_moments_are_the_integrals_of_the_density(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    for x in (-2.5, -0.4, 0.0, 0.7, 3.0):
        found = [float(moment[0]) for moment in distribution.moments(np.array([x]))]
        for order, moment in enumerate(found):
            pieces = [(-np.inf, -1.0), (-1.0, 0.0), (0.0, 1.0), (1.0, np.inf)]  # where a density has kinks
            expected = sum(
                integrate.quad(lambda t, k=order: t**k * distribution.density.pdf(t), low, min(high, x))[0]
                for low, high in pieces
                if low < x
            )
            assert moment == pytest.approx(expected, abs=1e-7)  # quad asks for 1.5e-8 of each piece


@pytest.mark.parametrize("name", PLAIN)
def test_error_and_codes_are_those_of_a_mean_over_the_absmax(name: str) -> None:
    """The formula for blocks of 32 by quadrature over the absmax m of normal weights, whose density is B G^(B-1) g."""
    block_size, codebook = 32, cells(name)

    def given(m: float) -> Array:
        """Squared error and probabilities of the codes of a weight within +-m."""
        below = stats.norm.cdf(codebook.edges * m)
        error = sum(
            integrate.fixed_quad(lambda w, v=level * m: (w - v) ** 2 * stats.norm.pdf(w), low * m, high * m, n=12)[0]
            for low, high, level in zip(codebook.edges[:-1], codebook.edges[1:], codebook.levels, strict=True)
        )
        values: Array = np.array([error, *np.diff(below)]) / (below[-1] - below[0])
        return values

    magnitudes = np.linspace(0.6, 6.5, 161)
    density = block_size * (2 * stats.norm.cdf(magnitudes) - 1) ** (block_size - 1) * 2 * stats.norm.pdf(magnitudes)
    mean = integrate.simpson(density * np.array([given(m) for m in magnitudes]).T, x=magnitudes)
    error, *probabilities = (block_size - 1) / block_size * mean
    for end in (-1, 1):
        probabilities[np.abs(codebook.levels - end).argmin()] += 0.5 / block_size
    assert relative_mse(codebook, NORMAL, block_size) == pytest.approx(error, rel=1e-6)
    assert code_probabilities(codebook, NORMAL, block_size) == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize("block_size", [32, 4096])
@pytest.mark.parametrize("name", PLAIN)
def test_the_codes_that_the_quantizer_packs_are_those_derived(name: str, block_size: int) -> None:
    """In standard errors between 32 independent samples: t of 31 degrees of freedom, beyond 7 once in 10^7 codes."""
    size = 1 << 14
    weights = torch.from_numpy(NORMAL.sample(32 * size, seed=1)).view(32, size)
    order = list(cells(name).codes)
    shares = np.array([count_codes(weight, name, block_size)[order] for weight in weights]) / size
    derived = code_probabilities(cells(name), NORMAL, block_size)
    spread = shares.std(axis=0, ddof=1) / math.sqrt(32)
    used = derived > 1e-4  # rarer codes are counted too seldom for a t distribution
    assert used.sum() >= 12
    assert (np.abs(shares.mean(axis=0) - derived)[used] <= 7 * spread[used]).all()
    assert shares.mean(axis=0)[derived == 0].sum() == 0


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_error_of_the_quantizer_is_that_derived(name: str) -> None:
    """Likewise, of NF4 in blocks of 64; Student's t has squares of squares, so its spread is one too."""
    size, distribution = 1 << 14, DISTRIBUTIONS[name]
    weights = torch.from_numpy(distribution.sample(32 * size, seed=2)).view(32, size)
    errors = [float((restore(weight, "nf4", 64).values - weight).double().square().mean()) for weight in weights]
    derived = relative_mse(cells("nf4"), distribution, 64) * distribution.second_moment
    assert abs(np.mean(errors) - derived) <= 7 * np.std(errors, ddof=1) / math.sqrt(32)


def test_nf4_is_what_its_construction_gives() -> None:
    """To 2e-7, and its codes then are equally likely within a seventh under that normal distribution."""
    assert constructed_levels() == pytest.approx(NF4_LEVELS, abs=2e-7)
    probabilities = constructed_probabilities(cells("nf4"))
    assert probabilities.sum() == pytest.approx(1)
    assert 1 / 18 < probabilities.min() < probabilities.max() < 1 / 14


@pytest.mark.parametrize("block_size", [32, 4096])
def test_the_density_of_quotients_is_what_the_codes_leave(block_size: int) -> None:
    """Its integral is all but the largest weight of a block."""
    x = np.linspace(-1, 1, 2001)
    total = integrate.simpson(density_of_quotients(NORMAL, block_size, x), x=x)
    assert total == pytest.approx((block_size - 1) / block_size, abs=1e-6)


def test_the_mean_absmax_of_uniform_weights_is_known() -> None:
    assert [mean_absmax(UNIFORM, size) for size in (32, 4096)] == pytest.approx([32 / 33, 4096 / 4097])


def test_entropy() -> None:
    assert entropy_bits(np.ones(16)) == 4
    assert entropy_bits(np.array([0.0, 0.5, 0.25, 0.25])) == 1.5
