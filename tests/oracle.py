"""The truth, computed a second time: loops over lists of Python floats, without torch and without anything from
`quant`.

Where a format is defined in float32, each operation is done in float64 on float32 values and rounded once by `f32`.
That is the float32 result: float64 has 53 >= 2 * 24 + 2 bits, so rounding twice equals rounding once for + - * /. Where
a result is judged rather than repeated (a linear layer), sums are exact (`math.fsum`) and `linear_error` says how much
of the deviation float32 explains.
"""

import itertools
import math
import struct
from collections.abc import Callable, Sequence

SMALLEST_SCALE = 2.0**-125
UNIT_ROUNDOFF = 2.0**-24
"""Largest relative error of one rounding to float32."""
PRECISION = {
    "float64": (2.0**-53, 0.0),
    "float32": (2.0**-24, 2.0**-150),
    "bfloat16": (2.0**-8, 2.0**-134),
    "float16": (2.0**-11, 2.0**-25),
}
"""Largest relative error of one rounding, and largest absolute one among the subnormals."""
GROUP = 256
"""Absmax values that share one scale under double quantization."""


def f32(value: float) -> float:
    """`value` rounded to the nearest float32, to infinity beyond its range."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


SMALLEST_DIVISOR = f32(1e-38)

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Dettmers et al. 2023 (QLoRA), appendix E."""
FP4 = tuple(f32(sign * numerator / 192) for sign in (1, -1) for numerator in (0, 1, 128, 192, 64, 96, 32, 48))
INT4 = tuple(f32((code - 8) / 7) for code in range(16))
LEVELS = {"nf4": NF4, "fp4": FP4, "int4": INT4}


def int8_row(row: Sequence[float]) -> tuple[list[int], float]:
    """Codes -127..127 and the scale of one row of float32 values; a scale below `SMALLEST_SCALE` gives zeros."""
    scale = f32(max(map(abs, row)) / 127)
    if math.isinf(f32(127 * scale)):
        # The next smaller float32: the bits of a positive float are ordered like integers.
        scale = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", scale))[0] - 1))[0]
    if scale < SMALLEST_SCALE:
        return [0] * len(row), 0.0
    return [max(-127, min(127, round(f32(value / scale)))) for value in row], scale


def int8_rows(rows: Sequence[Sequence[float]]) -> tuple[list[list[int]], list[float]]:
    """`int8_row` of every row."""
    pairs = [int8_row(row) for row in rows]
    return [codes for codes, _ in pairs], [scale for _, scale in pairs]


def dequantize_int8(codes: Sequence[int], scale: float) -> list[float]:
    """code * scale, in float32."""
    return [f32(code * scale) for code in codes]


def nearest_code(value: float, levels: Sequence[float]) -> int:
    """The code of the level nearest to `value`, by trying all of them.

    A value on the float32 midpoint of two levels takes the lower one. Of several codes for one level (FP4's zeros) the
    last serves values above it, the first all others. float64 decides every case: the levels are multiples of 2^-31, so
    where a float32 value is near a midpoint its two distances are exact.
    """
    distinct = sorted(set(levels))
    best = min(distinct, key=lambda level: (abs(value - level), level))
    for lower, upper in itertools.pairwise(distinct):
        if value == f32((lower + upper) / 2):
            best = lower
    codes = [code for code, level in enumerate(levels) if level == best]
    return codes[-1] if value > best else codes[0]


def quantize_blocks(values: Sequence[float], levels: Sequence[float], block_size: int) -> tuple[list[int], list[float]]:
    """Codes and absmax of a flat list: full blocks times the reciprocal of their absmax, a short last one divided by
    it.
    """
    codes: list[int] = []
    absmax: list[float] = []
    for start in range(0, len(values), block_size):
        block = values[start : start + block_size]
        largest = max(map(abs, block))
        divisor = max(largest, SMALLEST_DIVISOR)
        if len(block) == block_size:
            reciprocal = f32(1 / divisor)
            quotients = [f32(value * reciprocal) for value in block]
            absmax.append(largest)
        else:
            quotients = [f32(value / divisor) for value in block]
            absmax.append(divisor)
        codes += [nearest_code(max(-1.0, min(1.0, quotient)), levels) for quotient in quotients]
    return codes, absmax


def dequantize_blocks(
    codes: Sequence[int], absmax: Sequence[float], levels: Sequence[float], block_size: int
) -> list[float]:
    """level * absmax of the block, in float32."""
    return [f32(levels[code] * absmax[index // block_size]) for index, code in enumerate(codes)]


def fold(terms: Sequence[float]) -> float:
    """The float32 sum of `terms`: the second half onto the first, and again, the middle one of an odd number alone."""
    left = list(terms)
    while len(left) > 1:
        half = (len(left) + 1) // 2
        left = [f32(a + b) for a, b in itertools.zip_longest(left[:half], left[half:], fillvalue=0.0)]
    return left[0]


def searched_scale(
    row: Sequence[float], plain: float, nearest: Callable[[float, float], float], factors: Sequence[float]
) -> float:
    """The scale of least squared error of one row or block: `factors` of `plain`, then two steps of least squares.

    nearest(value, scale) is the level, before it is multiplied by the scale. All is done on values over the power of
    two at or below `plain`; a plain scale beyond 2^+-115 is kept, and so is one that is not beaten by 2^-18 of itself.
    """
    if not 2.0**-115 <= plain <= 2.0**115:
        return plain
    exponent = math.frexp(plain)[1] - 1
    values, start = [math.ldexp(value, -exponent) for value in row], math.ldexp(plain, -exponent)

    def error(scale: float) -> float:
        differences = [f32(value - f32(nearest(value, scale) * scale)) for value in values]
        return fold([f32(difference * difference) for difference in differences])

    candidates = [start, *(f32(start * f32(factor)) for factor in factors)]
    best = min(candidates, key=error)  # the first of equal ones
    for _ in range(2):
        levels = [nearest(value, best) for value in values]
        fitted = fold([f32(value * level) for value, level in zip(values, levels, strict=True)])
        fitted = f32(fitted / fold([f32(level * level) for level in levels]))
        low, high = f32(start * f32(factors[0])), f32(start * f32(factors[-1]))
        best = min(best, max(low, min(high, fitted)), key=error)
    beaten = error(best) < f32(error(start) * (1 - 2.0**-18))
    return math.ldexp(best if beaten else start, exponent)


def pack(codes: Sequence[int], fill: int) -> list[int]:
    """Bytes of two codes, the first in the high nibble; `fill` completes an odd number."""
    padded = list(codes) + [fill] * (len(codes) % 2)
    return [16 * padded[index] + padded[index + 1] for index in range(0, len(padded), 2)]


def unpack(packed: Sequence[int], count: int) -> list[int]:
    """The first `count` codes of `pack`."""
    return [nibble for byte in packed for nibble in divmod(byte, 16)][:count]


def quantize_absmax(absmax: Sequence[float], offset: float, levels: Sequence[float]) -> tuple[list[int], list[float]]:
    """Codes and scales of the absmax values less `offset`, in groups; `levels` is the ascending 8-bit map.

    Each quotient goes to the nearest of 65536 points on [-1, 1] first and that point to its nearest level, the lower on
    a tie; to the nearest level that gives a finite float32, where that one does not.
    """
    codes: list[int] = []
    scales: list[float] = []
    for start in range(0, len(absmax), GROUP):
        centred = [f32(value - offset) for value in absmax[start : start + GROUP]]
        scale = max(map(abs, centred))
        scales.append(scale)
        for value in centred:
            code = _code_of_quotient(f32(value * f32(1 / scale)), levels) if scale else 0
            while math.isinf(f32(f32(levels[code] * scale) + offset)):
                code -= 1
            codes.append(code)
    return codes, scales


def _code_of_quotient(quotient: float, levels: Sequence[float]) -> int:
    clamped = max(-1.0, min(1.0, quotient))
    point = int(f32(f32(f32(f32(clamped + 1) * 0.5) * 65535) + 0.5))
    return nearest_code(f32(f32(2 * point / 65535) - 1), levels)


def dequantize_absmax(
    codes: Sequence[int], scales: Sequence[float], offset: float, levels: Sequence[float]
) -> list[float]:
    """level * scale of the group + offset, each step in float32."""
    return [f32(f32(levels[code] * scales[index // GROUP]) + offset) for index, code in enumerate(codes)]


def linear(x: Sequence[float], weight: Sequence[Sequence[float]], bias: Sequence[float] | None = None) -> list[float]:
    """x weight^T + bias for one row x, each output an exact sum rounded once to float64."""
    shift = bias or [0.0] * len(weight)
    return [math.fsum([*(a * b for a, b in zip(x, row, strict=True)), c]) for row, c in zip(weight, shift, strict=True)]


def linear_error(
    y: Sequence[Sequence[float]],
    x: Sequence[Sequence[float]],
    weight: Sequence[Sequence[float]],
    bias: Sequence[float] | None = None,
    dtype: str = "float32",
    level_error: float | None = None,
) -> float:
    """The largest error of y = x weight^T + bias as a fraction of what arithmetic explains: at most 1 where y is right.

    A sum of n products in whatever order is off by at most n u / (1 - n u) times the sum of their magnitudes (Higham
    2002, section 3.1), u = 2^-24, or 2^-53 for a float64 x; then y is rounded to `dtype`. Each product and y may
    underflow.

    `level_error` is given where the product is one of integers: each weight may be off by that fraction of itself, and
    each activation by half a step of its row's fixed point, max |x| / 65534 (`tests/unit/test_integer_error.py`). Two
    more roundings than the sum has terms are those of a part's integer and of y to float32.
    """
    rounding, smallest = PRECISION[dtype]
    unit = min(rounding, UNIT_ROUNDOFF)
    shift = bias or [0.0] * len(weight)
    integers = level_error is not None and dtype != "float64"
    levels = level_error if integers and level_error is not None else 0.0
    worst = 0.0
    for y_row, x_row in zip(y, x, strict=True):
        terms = len(x_row) + (3 if integers else 1)
        step = max(map(abs, x_row)) / 32767 * (1 + 2.0**-35) if integers else 0.0
        for actual, exact, row, c in zip(y_row, linear(x_row, weight, bias), weight, shift, strict=True):
            magnitude = math.fsum([*(abs(a * b) for a, b in zip(x_row, row, strict=True)), abs(c)])
            summing = terms * unit / (1 - terms * unit) * magnitude + terms * 2.0**-149
            summing += (1 + levels) * step / 2 * math.fsum(map(abs, row)) + levels * magnitude
            bound = summing + rounding * (abs(exact) + summing) + smallest
            worst = max(worst, abs(actual - exact) / bound) if math.isfinite(actual) else math.inf
    return worst
