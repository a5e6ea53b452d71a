"""The tables of levels, against the published constants, exact fractions and their own structure."""

import itertools
from fractions import Fraction

import pytest

from quant.codebooks import DYNAMIC8_LEVELS, LEVELS, largest_half_gap
from tests import oracle

CODEBOOKS = ("nf4", "fp4", "int4")


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_levels_are_the_reference_levels_exactly(codebook: str) -> None:
    assert LEVELS[codebook] == oracle.LEVELS[codebook]


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_levels_are_sixteen_float32_values_with_zero_and_both_ends(codebook: str) -> None:
    levels = LEVELS[codebook]
    assert len(levels) == 16
    assert all(level == oracle.f32(level) for level in levels)
    assert {-1.0, 0.0, 1.0} <= set(levels)


def test_nf4_ascends_with_seven_negative_and_eight_positive_levels() -> None:
    levels = LEVELS["nf4"]
    assert list(levels) == sorted(set(levels))
    assert levels.index(0.0) == 7


def test_fp4_is_sign_two_exponent_bits_and_one_mantissa_bit_over_twelve() -> None:
    """Code s eem, as bitsandbytes decodes it; its two smallest codes per sign are 0 and 1/16 instead of subnormals."""
    magnitudes = [Fraction(n, 192) for n in (0, 1, 128, 192, 64, 96, 32, 48)]
    for code, magnitude in enumerate(magnitudes):
        assert abs(Fraction(LEVELS["fp4"][code]) - magnitude) <= magnitude / 2**24
        assert LEVELS["fp4"][code + 8] == -LEVELS["fp4"][code]


def test_int4_levels_are_sevenths_to_the_last_bit() -> None:
    for code, level in enumerate(LEVELS["int4"]):
        assert abs(Fraction(level) - Fraction(code - 8, 7)) <= Fraction(abs(code - 8), 7 * 2**24)
        assert code == 0 or level == -LEVELS["int4"][16 - code]


def test_dynamic_map_ascends_and_mirrors_all_but_its_one() -> None:
    assert len(DYNAMIC8_LEVELS) == 256
    assert list(DYNAMIC8_LEVELS) == sorted(set(DYNAMIC8_LEVELS))
    assert all(level == oracle.f32(level) for level in DYNAMIC8_LEVELS)
    assert {-level for level in DYNAMIC8_LEVELS} ^ set(DYNAMIC8_LEVELS) == {1.0, -1.0}


def test_dynamic_map_is_the_midpoints_of_seven_decades() -> None:
    """Against exact fractions, in units of 2^-24 relative to the level.

    An edge inherits at most 1 from 0.1 and from the step and adds 1 of its own, the sum of two edges adds 1, the power
    of ten 1 and the product 1: less than 6.
    """
    exact = {Fraction(0), Fraction(1)}
    for decade in range(7):
        width = Fraction(9, 10 * 2**decade)
        for index in range(2**decade):
            level = Fraction(10) ** (decade - 6) * (Fraction(1, 10) + width * (2 * index + 1) / 2)
            exact |= {level, -level}
    for actual, expected in zip(DYNAMIC8_LEVELS, sorted(exact), strict=True):
        assert abs(Fraction(actual) - expected) <= 6 * abs(expected) / 2**24


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_largest_half_gap_ignores_levels_that_no_weight_gets(codebook: str) -> None:
    levels = sorted({level for level in oracle.LEVELS[codebook] if abs(level) <= 1})
    assert largest_half_gap(codebook) == max(high - low for low, high in itertools.pairwise(levels)) / 2
