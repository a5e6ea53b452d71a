"""The integer oracle itself: its roundings and sums against cases worked out by hand, Python's own conversions and
torch's.
"""

import itertools
import math
import struct
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import integer_oracle, oracle
from tests.integer_oracle import fma, fma_float32, nearest

LARGEST_FLOAT32 = integer_oracle.FORMATS["float32"].largest
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", 1 + power(-24), 1.0),
        ("float32", 1 + power(-24) + power(-200), 1 + 2.0**-23),
        ("float32", 1 + 3 * power(-24), 1 + 2.0**-22),
        ("float32", Fraction(1, 3), 11184811 * 2.0**-25),
        ("float32", power(-150), 0.0),
        ("float32", power(-150) + power(-300), 2.0**-149),
        ("float32", 3 * power(-150), 2.0**-148),
        ("float32", -(2 - power(-24)), -2.0),
        ("float32", power(128) - power(103) - 1, LARGEST_FLOAT32),
        ("float32", power(128) - power(103), math.inf),
        ("float32", -power(128), -math.inf),
        ("bfloat16", 1 + power(-8), 1.0),
        ("bfloat16", 1 + 3 * power(-8), 1 + 2.0**-6),
        ("bfloat16", power(-134), 0.0),
        ("bfloat16", 3 * power(-134), 2.0**-132),
        ("float16", Fraction(2049), 2048.0),
        ("float16", Fraction(2051), 2052.0),
        ("float16", Fraction(65519), 65504.0),
        ("float16", Fraction(65520), math.inf),
        ("float16", power(-25), 0.0),
        ("float64", 1 + power(-53), 1.0),
        ("float64", power(-1075) + power(-2000), 2.0**-1074),
    ],
    ids=str,
)
def test_rounding_by_hand(dtype: str, value: Fraction, expected: float) -> None:
    assert nearest(value, dtype) == expected
    assert nearest(-value, dtype) == -expected


def test_the_sign_survives_rounding_to_zero() -> None:
    assert math.copysign(1, nearest(-power(-400), "float32")) == -1
    assert math.copysign(1, nearest(power(-400), "float32")) == 1
    assert math.copysign(1, integer_oracle.narrow(-(2.0**-400), "bfloat16")) == -1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_as_python_and_torch_round(value: float) -> None:
    exact = Fraction(value)
    assert nearest(exact, "float64") == value
    assert nearest(exact / 3, "float64") == float(exact / 3)
    assert nearest(exact, "float32") == oracle.f32(value)
    single = torch.tensor(oracle.f32(value))
    if math.isfinite(single.item()):
        for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
            assert nearest(Fraction(single.item()), name) == single.to(dtype).item()
            assert integer_oracle.narrow(value, name) == single.to(dtype).item()


def test_outputs_are_rounded_to_float32_first() -> None:
    assert integer_oracle.narrow(1 + 2.0**-8 + 2.0**-30, "bfloat16") == 1
    assert nearest(Fraction(1 + 2.0**-8 + 2.0**-30), "bfloat16") == 1 + 2.0**-7
    assert integer_oracle.narrow(3.5e38, "bfloat16") == math.inf
    assert math.isnan(integer_oracle.narrow(math.nan, "float16"))


BELOW, ABOVE = 2.0**-12 * (1 - 2.0**-23), 2.0**-12 * (1 + 2.0**-23)
"""Their product is 2^-24 - 2^-70."""


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        (1 + 2.0**-12, 1 + 2.0**-12, -(1 + 2.0**-11), 2.0**-24),  # the product, rounded first, would leave 0
        # The sum in float64 is on the midpoint of two float32 values, the exact one is beside it.
        (BELOW, ABOVE, 1 + 2.0**-23, 1 + 2.0**-23),
        (BELOW, -ABOVE, 1 + 2.0**-23, 1 + 2.0**-23),
        (BELOW, ABOVE, 1.0, 1.0),
        (LARGEST_FLOAT32, 2.0, -LARGEST_FLOAT32, LARGEST_FLOAT32),
        (LARGEST_FLOAT32, 1.0, 2.0**102, LARGEST_FLOAT32),
        (LARGEST_FLOAT32, 1.0, 2.0**103, math.inf),
        (2.0**-75, 2.0**-75, 0.0, 0.0),
        (2.0**-75, 2.0**-75, 2.0**-149, 2.0**-148),
        (math.inf, 1.0, 1.0, math.inf),
        (2.0, 3.0, -math.inf, -math.inf),
    ],
)
def test_fused_multiply_add_by_hand(a: float, b: float, c: float, expected: float) -> None:
    assert fma(a, b, c, "float32") == fma_float32(a, b, c) == expected
    assert fma(-a, b, -c, "float32") == fma_float32(-a, b, -c) == -expected


def test_fused_multiply_add_of_float64() -> None:
    assert fma(2.0**27 + 1, 2.0**27 + 1, -(2.0**54 + 2.0**28), "float64") == 1
    assert fma(1.0, 2.0**-53, 1.0, "float64") == 1
    assert fma(1 + 2.0**-52, 2.0**-53, 1.0, "float64") == 1 + 2.0**-52
    assert math.isnan(fma(math.inf, 1.0, -math.inf, "float64"))


@pytest.mark.parametrize(
    ("a", "b", "c", "sign"),
    [(0.0, -1.0, 0.0, 1), (0.0, -1.0, -0.0, -1), (1.0, 1.0, -1.0, 1), (2.0**-100, -(2.0**-100), 0.0, -1)],
)
def test_signs_of_zero(a: float, b: float, c: float, sign: int) -> None:
    for result in (fma(a, b, c, "float32"), fma_float32(a, b, c)):
        assert (result, math.copysign(1, result)) == (0, sign)


@given(FLOAT32, FLOAT32, FLOAT32)
def test_the_quick_way_is_the_exact_way(a: float, b: float, c: float) -> None:
    # Near cancellation and near the midpoints as well as for arbitrary operands.
    for operands in ((a, b, c), (a, b, oracle.f32(-a * b)), (oracle.f32(1 + b), BELOW, oracle.f32(a * b))):
        if all(map(math.isfinite, operands)):
            exact, quick = fma(*operands, "float32"), fma_float32(*operands)
            assert struct.pack("<f", exact) == struct.pack("<f", quick)


def test_fixed_point_by_hand() -> None:
    assert integer_oracle.fixed_point([2.0, 1.0, -0.5, 3.0 / 32767, 0.0]) == ([32767, 16384, -8192, 2, 0], 2.0)
    assert integer_oracle.fixed_point([0.5, 1.5, 2.5, -2.5, 32767.0])[0] == [0, 2, 2, -2, 32767]
    assert integer_oracle.fixed_point([0.0, -0.0]) == ([0, 0], 0.0)
    assert integer_oracle.fixed_point([2.0**-149, -(2.0**-149)]) == ([32767, -32767], 2.0**-149)


def test_parts_by_hand() -> None:
    """Row 1 of 33 columns starts at element 33; the second block of 32 ends before element 64."""
    assert list(integer_oracle.parts(0, 33, 32)) == [(0, 0, 16, 0), (1, 16, 32, 0), (2, 32, 33, 1)]
    assert list(integer_oracle.parts(1, 33, 32)) == [(0, 0, 16, 1), (1, 16, 31, 1), (1, 31, 32, 2), (2, 32, 33, 2)]
    assert [part[0] for part in integer_oracle.parts(0, 16 * 18, 4096)] == [*range(16), 0, 1]


def test_parts_hold_every_element_once() -> None:
    for row, in_features, block_size in itertools.product((0, 1, 2, 7), (1, 15, 16, 17, 33, 129, 300), (32, 64)):
        seen: list[int] = []
        for lane, start, stop, block in integer_oracle.parts(row, in_features, block_size):
            assert start < stop
            assert {k // 16 % 16 for k in range(start, stop)} == {lane}
            assert {(row * in_features + k) // block_size for k in range(start, stop)} == {block}
            seen += range(start, stop)
        assert seen == list(range(in_features))


def test_integer_levels() -> None:
    nf4 = (-4075, -2837, -2140, -1609, -1159, -753, -371, 0, 324, 656, 1003, 1377, 1796, 2293, 2946, 4075)
    assert integer_oracle.INTEGER_LEVELS["nf4"] == nf4
    magnitudes = (0, 1, 128, 192, 64, 96, 32, 48)
    assert integer_oracle.INTEGER_LEVELS["fp4"] == tuple(21 * sign * n for sign in (1, -1) for n in magnitudes)
    assert integer_oracle.INTEGER_LEVELS["int4"] == tuple(511 * (code - 8) for code in range(16))


def test_lanes_by_hand() -> None:
    large = 2**24
    assert integer_oracle.lane_sum([(0, 133525525, 1.0)]) == 133525528  # float32 holds multiples of 8 there
    assert integer_oracle.lane_sum([(0, large, 1.0), (1, 1, 1.0), (2, -large, 1.0)]) == 0
    assert integer_oracle.lane_sum([(0, large, 1.0), (1, -large, 1.0), (2, 1, 1.0)]) == 1
    assert integer_oracle.lane_sum([(2, 1, 1.0), (0, large, 1.0), (1, -large, 1.0)]) == 1
    assert integer_oracle.lane_sum([(5, large, 1.0), (5, 1, 1.0), (5, -large, 1.0)]) == 0
    huge = 2.0**127
    assert integer_oracle.lane_sum([(0, 2**30, huge), (1, -(2**30), huge), (2, 3, 1.0)]) == 3
    assert integer_oracle.lane_sum([(0, large + 1, huge)]) == (large + 1) * huge  # P itself, not P in float32
    assert integer_oracle.lane_sum([(3, 1, huge), (3, 1, huge), (3, -1, huge)]) == huge


def test_outputs_by_hand() -> None:
    exact = nearest(Fraction(32767 + 16384, 32767), "float32")
    assert integer_oracle.w8a16_linear([2.0, 1.0], [[1, 1], [0, 0]], [0.5, 1.0]) == [exact, 0.0]
    assert integer_oracle.w8a16_linear([1.0], [[3]], [0.5], [-1.0], "float16") == [0.5]
    assert integer_oracle.blockwise_linear([1.0, 0.0], [15, 7, 0, 7], [0.5], "nf4", 32) == [0.5, -0.5]
    assert integer_oracle.blockwise_linear([7.0], [0, 8, 15], [1.0], "int4", 32, [0.0, 1.0, 2.0]) == [-8.0, 1.0, 9.0]
    assert integer_oracle.blockwise_linear([0.0, 0.0], [15, 15], [math.inf], "nf4", 32, [2.0]) == [2.0]
    for bad in (math.nan, math.inf, -math.inf):
        assert all(map(math.isnan, integer_oracle.w8a16_linear([1.0, bad], [[0, 0]], [1.0], [1.0])))
        assert all(map(math.isnan, integer_oracle.blockwise_linear([1.0, bad], [7, 7], [1.0], "nf4", 32)))
