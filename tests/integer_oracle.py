"""What the integer kernels compute, a second time and to the last bit: Python ints, Fractions and floats, without torch
and without anything from `quant`.

A row x of K activations becomes 16-bit fixed point, q_k = round(x_k * (32767 / a)) with a = max |x_k|; products of
q_k with the codes (W8A16) or with integer levels (4 bits) are summed exactly where that is possible; what is left to
round is rounded in one stated order. `+`, `-`, `*`, `/` on Python floats are float64 operations, each rounded once, and
`round` takes ties to even.

W8A16: y = (A * (a / 32767)) * scale, A the integer sum.

4 bits: the row is cut into groups of 16 elements, and a group again where an absmax block ends inside it. The integer
sum P of each part goes, times the block's absmax, into lane (group mod 16) of 16 float32 lanes by a fused multiply-add;
the lanes are added in order. Where that total is not finite it is computed again in float64, from P itself.
y = total * (a / (32767 * S)), S being what the levels were multiplied by to become integers.

Both: plus the bias, all in float64; then rounded to float32, and that to the dtype of x.
"""

import math
import operator
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from tests.oracle import LEVELS, f32

LARGEST = 32767
"""The largest |q|."""
GROUP = 16
"""Elements of a group, and lanes."""
MULTIPLIER = {"nf4": 4075, "fp4": 4032, "int4": 3577}
INTEGER_LEVELS = {name: tuple(round(level * MULTIPLIER[name]) for level in levels) for name, levels in LEVELS.items()}

LEVEL_ERROR = {
    "w8a16": 0.0,
    **{
        name: max(
            abs(integer / MULTIPLIER[name] / level - 1)
            for integer, level in zip(integers, LEVELS[name], strict=True)
            if level
        )
        for name, integers in INTEGER_LEVELS.items()
    },
}
"""How far a level's integer is from the level at most, as a fraction of it, by scheme; zero is zero."""


class Format(NamedTuple):
    """A binary floating-point format: bits of the significand, exponent of the smallest subnormal, largest value."""

    bits: int
    smallest: int
    largest: float


FORMATS = {
    "float64": Format(53, -1074, sys.float_info.max),
    "float32": Format(24, -149, (2 - 2.0**-23) * 2.0**127),
    "bfloat16": Format(8, -133, (2 - 2.0**-7) * 2.0**127),
    "float16": Format(11, -24, 65504.0),
}


def nearest(value: Fraction, dtype: str) -> float:
    """`value` rounded half to even; to infinity beyond the range, to -0.0 from below."""
    bits, smallest, largest = FORMATS[dtype]
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - bits + 1, smallest)
    rounded = round(magnitude / quantum) * quantum
    result = math.inf if rounded > largest else float(rounded)
    return -result if value < 0 else result


def narrow(value: float, dtype: str) -> float:
    """A float64 rounded to float32, and that to `dtype`."""
    single = f32(value)
    if dtype == "float32" or single == 0 or not math.isfinite(single):
        return single
    return nearest(Fraction(single), dtype)


def fma(a: float, b: float, c: float, dtype: str) -> float:
    """a * b + c rounded once. The operands are values of `dtype`; a * b is within float64's range."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    # An exact zero has its sign from the operands' signs, by the rules that float64 follows too.
    return nearest(exact, dtype) if exact else a * b + c


def fma_float32(a: float, b: float, c: float) -> float:
    """`fma` for float32 values, quickly: the product is exact in float64, and often the sum as well."""
    product = a * b
    total = product + c
    virtual = total - product
    error = (product - (total - virtual)) + (c - virtual)  # Knuth's two-sum: total + error is exact
    return f32(total) if error == 0 else fma(a, b, c, "float32")


def fixed_point(x: Sequence[float]) -> tuple[list[int], float]:
    """q and a of a row of finite values."""
    largest = max(map(abs, x))
    if largest == 0:
        return [0] * len(x), 0.0
    inverse = 32767.0 / largest
    return [round(value * inverse) for value in x], largest


def dot(q: Sequence[int], weight: Sequence[int]) -> int:
    """The exact sum of products."""
    return sum(map(operator.mul, q, weight))


def parts(row: int, in_features: int, block_size: int) -> Iterator[tuple[int, int, int, int]]:
    """(lane, start, stop, block) of the parts of a row, start and stop within the row."""
    first = row * in_features
    for start in range(0, in_features, GROUP):
        stop = min(start + GROUP, in_features)
        block = (first + start) // block_size
        cut = (block + 1) * block_size - first
        lane = start // GROUP % GROUP
        if start < cut < stop:
            yield lane, start, cut, block
            yield lane, cut, stop, block + 1
        else:
            yield lane, start, stop, block


def lane_sum(terms: Sequence[tuple[int, int, float]]) -> float:
    """The total of (lane, P, absmax) in float32, or in float64 where float32 overflows."""
    lanes = [0.0] * GROUP
    for lane, integer, absmax in terms:
        lanes[lane] = fma_float32(f32(integer), absmax, lanes[lane])
    total = 0.0
    for value in lanes:
        total = f32(total + value)
    return total if math.isfinite(total) else wide_lane_sum(terms)


def wide_lane_sum(terms: Sequence[tuple[int, int, float]]) -> float:
    """The total of (lane, P, absmax) in float64."""
    lanes = [0.0] * GROUP
    for lane, integer, absmax in terms:
        lanes[lane] = fma(float(integer), absmax, lanes[lane], "float64")
    total = 0.0
    for value in lanes:
        total += value
    return total


def finish(products: Sequence[float], bias: Sequence[float] | None, dtype: str) -> list[float]:
    """The bias added in float64, then rounded."""
    if bias is not None:
        products = [value + shift for value, shift in zip(products, bias, strict=True)]
    return [narrow(value, dtype) for value in products]


def w8a16_linear(
    x: Sequence[float],
    codes: Sequence[Sequence[int]],
    scales: Sequence[float],
    bias: Sequence[float] | None = None,
    dtype: str = "float32",
) -> list[float]:
    """One row x [in] of `dtype` times codes [out][in] and scales [out]."""
    if not all(map(math.isfinite, x)):
        return [math.nan] * len(codes)
    q, largest = fixed_point(x)
    unit = largest / 32767.0
    products = [(float(dot(q, row)) * unit) * scale for row, scale in zip(codes, scales, strict=True)]
    return finish(products, bias, dtype)


def blockwise_linear(
    x: Sequence[float],
    codes: Sequence[int],
    absmax: Sequence[float],
    codebook: str,
    block_size: int,
    bias: Sequence[float] | None = None,
    dtype: str = "float32",
) -> list[float]:
    """One row x [in] of `dtype` times a weight of codes [out * in], 4 bits each, and absmax [blocks]."""
    in_features = len(x)
    out_features = len(codes) // in_features
    if not all(map(math.isfinite, x)):
        return [math.nan] * out_features
    q, largest = fixed_point(x)
    levels = [INTEGER_LEVELS[codebook][code] for code in codes]
    unit = largest / (32767.0 * MULTIPLIER[codebook])
    products = []
    for row in range(out_features):
        weight = levels[row * in_features : (row + 1) * in_features]
        terms = [
            (lane, dot(q[start:stop], weight[start:stop]), absmax[block])
            for lane, start, stop, block in parts(row, in_features, block_size)
        ]
        products.append((lane_sum(terms) if largest else 0.0) * unit)
    return finish(products, bias, dtype)
