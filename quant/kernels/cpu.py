"""The products on the CPU, in integers: the specification that every native kernel and the tests' oracle follow.

y = x W^T + b is the same, bit for bit, for one row of x or a thousand, one thread or many, AVX-512, AVX2, NEON or plain
C, because its sums are sums of integers, and where floats are added the order is fixed here. N is the number of
outputs, K of inputs; float64 and float32 operations round to nearest, ties to even, and keep subnormals whatever the
caller's setting.

**Activations.** Each row x of float32, bfloat16 or float16 becomes 16-bit fixed point with one scale. With
a = max |x_k|:

    q_k = round(float64(x_k) * (32767.0 / float64(a)))     half to even; |q_k| <= 32767; 0 where a = 0
    unit = float64(a) / 32767.0

so |x_k - q_k * unit| <= a / 65534. A row that holds NaN or Inf gives NaN in every output.

**W8A16**, codes c [N, K] of int8 and scales s [N]:

    A = sum_k q_k * c_nk                                    exact
    y = (float64(A) * unit) * float64(s_n)

A is exact: 512 products (of 128 * 32767 at most) fit 32 bits, where kernels accumulate before they widen to 64, and
those hold K up to 2^63 / 2^22 = 2^41; float64(A) is exact to K = 2^31.

**NF4, FP4, INT4**, codes in blocks with an absmax (with double quantization float32(level * scale) + offset): levels
are integers, L_c = round(level_c * S), |L_c| <= 4095 (`quant.codebooks.FIXED_POINT`), which is wrong by 4.2e-5 of the
absmax for NF4 (rms; bfloat16 weights: 1e-3 of the weight) and exact for FP4 and INT4. The row is cut into groups of 16
consecutive elements, group G = k // 16, and where a block ends inside a group, the group in two parts. A part's sum

    P = sum_k q_k * L_c                                     exact: 16 * 4095 * 32767 < 2^31

is accumulated in 16 lanes of float32, group G in lane G mod 16, in ascending order, from +0, by a fused multiply-add:

    F_j = fma(float32(P), absmax, F_j)
    t = ((F_0 + F_1) + F_2) + ... + F_15                    float32, from +0
    y = float64(t) * (float64(a) / (32767.0 * S))

Where t is not finite (an absmax near the end of float32's range), the lanes and their sum are float64 instead.

**Both**: y + float64(b_n) where there is a bias, then rounded to float32, then to the dtype of x; NaN is the positive
quiet one.

What this costs: the fixed point. It is at most half of 2^-15 of the row's largest activation per product, against 2^-9
of each weight that bfloat16 layers round. What is refused: float64, which `reference` multiplies. Why 16 elements and
16 lanes: a group is as long as 32-bit sums allow, and lanes are what a 512-bit vector holds when a row is streamed,
while a tile of many rows walks one lane after another with one accumulator per output.
"""

from typing import Any

from torch import Tensor

from quant import native
from quant.codebooks import DYNAMIC8_LEVELS, FIXED_POINT, fixed_point_levels

FEW_INT8 = {"avx512": 64, "avx2": 12, "neon": 12, "portable": 0}
FEW_BLOCKWISE = {"avx512": 24, "avx2": 8, "neon": 8, "portable": 1}
"""Both: up to so many rows of x the weight is streamed row by row; beyond, widening it in panels pays. Measured on Zen
4 with 2 threads and weights in memory: where the two ways take the same time for 16384 x 3072 and 3072 x 8192. `neon`
has those of `avx2`, unmeasured: it ran under emulation only."""


def takes(x: Tensor, rows: int, *operands: Any) -> bool:
    """Whether there are native kernels for x."""
    return native.reads(x)


def takes_few_int8(x: Tensor, rows: int, *operands: Any) -> bool:
    """Whether the kernels for few rows are the faster ones for x of `rows` rows, with int8 weights."""
    return native.reads(x) and rows <= FEW_INT8[native.variant()]


def takes_few_blockwise(x: Tensor, rows: int, *operands: Any) -> bool:
    """Likewise with 4-bit weights."""
    return native.reads(x) and rows <= FEW_BLOCKWISE[native.variant()]


def _w8a16_linear(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, few: bool) -> Tensor:
    return native.linear_int8(x, codes.contiguous(), scales.contiguous(), bias, few)


def w8a16_linear_few_rows(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in], codes int8 [out, in], scales float32 [out], bias [out] -> [..., out] in x's dtype.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    return _w8a16_linear(x, codes, scales, bias, few=True)


def w8a16_linear_many_rows(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """The same bits as `w8a16_linear_few_rows`, sooner for many rows."""
    return _w8a16_linear(x, codes, scales, bias, few=False)


def _blockwise_linear(
    few: bool,
    x: Tensor,
    packed: Tensor,
    absmax: Tensor,
    absmax_scale: Tensor | None,
    absmax_offset: Tensor | None,
    codebook: str,
    block_size: int,
    out_features: int,
    bias: Tensor | None,
) -> Tensor:
    absmax_scale = None if absmax_scale is None else absmax_scale.contiguous()
    return native.linear_blockwise(
        *(x, packed.contiguous(), absmax.contiguous(), absmax_scale, absmax_offset, block_size, out_features),
        *(fixed_point_levels(codebook), FIXED_POINT[codebook], DYNAMIC8_LEVELS, bias, few),
    )


def blockwise_linear_few_rows(x: Tensor, *operands: Any) -> Tensor:
    """As `quant.kernels.reference.blockwise_linear`, in integers.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    return _blockwise_linear(True, x, *operands)


def blockwise_linear_many_rows(x: Tensor, *operands: Any) -> Tensor:
    """The same bits as `blockwise_linear_few_rows`, sooner for many rows."""
    return _blockwise_linear(False, x, *operands)
