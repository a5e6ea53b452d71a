"""The levels that 4-bit and 8-bit codes stand for, as exact float32 values, with their provenance.

A codebook is a tuple indexed by the code. Three formats of 4 bits share all of their machinery and differ only here:

* NF4: the 16 quantile-based levels of QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, appendix E) as
  bitsandbytes stores them (`bitsandbytes.functional.get_4bit_type("nf4")`). Asymmetric: 7 negative levels, zero, 8
  positive ones. The constants are the definition; the generator that bitsandbytes documents does not repeat them
  exactly.
* FP4: sign, two exponent bits, one mantissa bit, in bit-pattern order, divided by 12 so that the largest is 1. Code 8
  is a second zero ("-0"). bitsandbytes, `get_4bit_type("fp4")`.
* INT4: evenly spaced, code c stands for (c - 8)/7. Code 0 (-8/7) is never produced: a block's absmax maps to +-7/7.

`DYNAMIC8` is the signed 8-bit dynamic map that double quantization uses for the absmax of the blocks (Dettmers 2015,
https://arxiv.org/abs/1511.04561; `bitsandbytes.functional.create_dynamic_map()`): seven decades, each with twice as
many evenly spaced levels as the one below. It is computed here in float32 steps rounded as bitsandbytes' tensors
round them, without torch, so that it is the same on every machine.
"""

import functools
import itertools
import struct

NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


def _float32(value: float) -> float:
    """`value` rounded to the nearest float32."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


_FP4_MAGNITUDES = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
FP4_LEVELS = tuple(_float32(sign * value / 12.0 + 0.0) for sign in (1.0, -1.0) for value in _FP4_MAGNITUDES)

INT4_LEVELS = tuple(_float32((code - 8) / 7.0) for code in range(16))


def _dynamic_map() -> tuple[float, ...]:
    """256 ascending levels: +-10^(d-6) times the midpoints of 2^d intervals of [0.1, 1], d = 0..6, then 0 and 1."""
    levels = [0.0, 1.0]
    start = _float32(0.1)
    for decade in range(7):
        intervals = 2**decade
        step = _float32(_float32(1.0 - start) / intervals)
        # One rounding per edge, counted from the nearer end, as torch.linspace does.
        edges = [
            _float32(start + step * k) if k < (intervals + 1) // 2 else _float32(1.0 - step * (intervals - k))
            for k in range(intervals + 1)
        ]
        magnitude = _float32(10.0 ** (decade - 6))
        for low, high in itertools.pairwise(edges):
            level = _float32(magnitude * _float32(_float32(low + high) / 2))
            levels += [level, -level]
    return tuple(sorted(levels))


DYNAMIC8_LEVELS = _dynamic_map()

LEVELS = {"nf4": NF4_LEVELS, "fp4": FP4_LEVELS, "int4": INT4_LEVELS}


FIXED_POINT = {"nf4": 4075, "fp4": 4032, "int4": 3577}
"""What the levels are multiplied by and rounded to become the integers that kernels multiply with.

The products of 16 of them with 16-bit activations must fit 32 bits, so magnitudes stay below 4096. FP4's levels are
multiples of 1/192 and INT4's of 1/7: 4032 = 21 * 192 and 3577 = 7 * 511 make them exact (INT4's unused -8/7 becomes
-4088). For NF4, 4075 has the least squared error of all integers up to 4095: 4.2e-5 of the absmax, 8.3e-5 at most.
"""


@functools.cache
def fixed_point_levels(codebook: str) -> tuple[int, ...]:
    """The 16 levels of `codebook` ("nf4", "fp4" or "int4"), times `FIXED_POINT[codebook]`, rounded half to even."""
    return tuple(round(level * FIXED_POINT[codebook]) for level in LEVELS[codebook])


def largest_half_gap(codebook: str) -> float:
    """Half the widest gap between neighbouring levels within [-1, 1]: the largest error for an absmax of 1."""
    levels = sorted({level for level in LEVELS[codebook] if -1.0 <= level <= 1.0})
    return max(high - low for low, high in itertools.pairwise(levels)) / 2
