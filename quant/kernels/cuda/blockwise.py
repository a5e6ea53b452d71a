"""NF4, FP4 and INT4 on CUDA in integers, for few rows: the bits of the CPU's kernels (`quant.kernels.cpu`).

There a row is cut into groups of 16 elements, and group G's exact integer sum goes times its absmax into lane G mod 16
of 16 float32 lanes, which are added in order at the end. A step of 256 inputs is one group for each lane: a thread has
one lane of an output, reads its group as one word of 64 bits, looks the codes up in a table of 16 integers, one cache
line, multiplies them with the pairs of activations that they belong to, and ends with one fused multiply-add. Up to
`BLOCK_M` rows of x share what was looked up.

Taken are inputs in multiples of 16 (all models we know): groups then never cross the end of a block, nor rows begin
within a byte. Others are left to `quant.kernels.reference`.

Why not for many rows: on tensor cores a group of 16 elements would take eight int8 products of 32 (two planes on either
side, half of each masked), and per group and output a conversion, three shifts and sums, and a multiply-add on the CUDA
cores: five instructions for 16 products. At 512 rows of Phi-3's gate_up that is 8e9 instructions, 0.28 ms on an H100
by its data sheet, where the product in bfloat16 takes 0.07. Many rows therefore are `quant.kernels.cuda.dequantizing`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.codebooks import DYNAMIC8_LEVELS, FIXED_POINT, fixed_point_levels
from quant.kernels.cuda.activations import LANES, fixed_point
from quant.kernels.cuda.rounding import finish
from quant.kernels.cuda.tables import block_absmax, table

BLOCK_M, BLOCK_N = 4, 8
"""Rows of x, at most, and outputs per program. Unmeasured: no GPU has run it yet."""


@triton.jit
def _part(word, pairs_ptr, levels_ptr):
    """The exact sums of groups: word int64 [BLOCK_N, 16], 16 codes each, times 8 pairs of activations for each lane."""
    lane = tl.arange(0, 16)
    low, high = word.to(tl.int32), (word >> 32).to(tl.int32)
    part = tl.zeros_like(low)
    for pair in tl.static_range(8):
        # The byte of two codes, the first in its high half; and two activations, the first in the low half.
        byte = low >> (8 * pair) if pair < 4 else high >> (8 * (pair - 4))
        both = tl.load(pairs_ptr + 16 * pair + lane)
        part += tl.load(levels_ptr + ((byte >> 4) & 15)) * ((both << 16) >> 16)[None, :]
        part += tl.load(levels_ptr + (byte & 15)) * (both >> 16)[None, :]
    return part


@triton.jit
def _lanes(
    pairs_ptr,
    words_ptr,
    absmax_ptr,
    scale_ptr,
    offset_ptr,
    level8_ptr,
    levels_ptr,
    row,
    m,
    n,
    k,
    outputs,
    BLOCK_SHIFT: tl.constexpr,
    DOUBLE: tl.constexpr,
    dtype: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The lanes of each output, [BLOCK_N, 16] of dtype, for each of four rows of x, of which BLOCK_M are used."""
    lane = tl.arange(0, 16)
    pairs = tl.cdiv(k, 256) * 128
    # Rows beyond the last are computed as the last, and not stored.
    first = pairs_ptr + row * pairs
    second = pairs_ptr + tl.minimum(row + 1, m - 1) * pairs
    third = pairs_ptr + tl.minimum(row + 2, m - 1) * pairs
    fourth = pairs_ptr + tl.minimum(row + 3, m - 1) * pairs
    lanes0 = tl.zeros([BLOCK_N, 16], dtype)
    lanes1, lanes2, lanes3 = lanes0, lanes0, lanes0
    for start in range(0, k, 256):
        column = start + lane * 16
        inside = (outputs[:, None] < n) & (column[None, :] < k)
        flat = outputs[:, None] * k + column[None, :]
        word = tl.load(words_ptr + (flat >> 4), mask=inside, other=0)
        absmax = block_absmax(absmax_ptr, scale_ptr, offset_ptr, level8_ptr, flat >> BLOCK_SHIFT, inside, DOUBLE)
        absmax = absmax.to(dtype)
        lanes0 = tl.fma(_part(word, first + start // 2, levels_ptr).to(dtype), absmax, lanes0)
        if BLOCK_M > 1:
            lanes1 = tl.fma(_part(word, second + start // 2, levels_ptr).to(dtype), absmax, lanes1)
        if BLOCK_M > 2:
            lanes2 = tl.fma(_part(word, third + start // 2, levels_ptr).to(dtype), absmax, lanes2)
            lanes3 = tl.fma(_part(word, fourth + start // 2, levels_ptr).to(dtype), absmax, lanes3)
    return lanes0, lanes1, lanes2, lanes3


@triton.jit
def _in_order(lanes):
    """((lane 0 + lane 1) + lane 2) + ...: all terms but one of each sum are zero, so their order does not matter."""
    lane = tl.arange(0, 16)[None, :]
    total = tl.sum(tl.where(lane == 0, lanes, 0.0), axis=1)
    for index in tl.static_range(1, 16):
        total += tl.sum(tl.where(lane == index, lanes, 0.0), axis=1)
    return total


@triton.jit
def _store(
    lanes,
    pairs_ptr,
    words_ptr,
    absmax_ptr,
    scale_ptr,
    offset_ptr,
    level8_ptr,
    levels_ptr,
    largest_ptr,
    bias_ptr,
    y_ptr,
    row,
    m,
    n,
    k,
    outputs,
    MULTIPLIER: tl.constexpr,
    BLOCK_SHIFT: tl.constexpr,
    DOUBLE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Output the sums of lanes for one row of x."""
    narrow = _in_order(lanes)
    finite = tl.abs(narrow) < float("inf")
    total = narrow.to(tl.float64)
    if tl.min(finite.to(tl.int32), axis=0) == 0:
        # An absmax near the end of float32's range.
        wide, _, _, _ = _lanes(
            pairs_ptr,
            words_ptr,
            absmax_ptr,
            scale_ptr,
            offset_ptr,
            level8_ptr,
            levels_ptr,
            row,
            m,
            n,
            k,
            outputs,
            BLOCK_SHIFT,
            DOUBLE,
            tl.float64,
            1,
            BLOCK_N,
        )
        total = tl.where(finite, total, _in_order(wide))
    y = total * (tl.load(largest_ptr + row).to(tl.float64) / (32767.0 * MULTIPLIER))
    if HAS_BIAS:
        y += tl.load(bias_ptr + outputs, mask=outputs < n, other=0.0).to(tl.float64)
    tl.store(y_ptr + row * n + outputs, finish(y, y_ptr.dtype.element_ty), mask=outputs < n)


@triton.jit
def _few_rows(
    pairs_ptr,
    words_ptr,
    absmax_ptr,
    scale_ptr,
    offset_ptr,
    level8_ptr,
    levels_ptr,
    largest_ptr,
    bias_ptr,
    y_ptr,
    m,
    n,
    k,
    MULTIPLIER: tl.constexpr,
    BLOCK_SHIFT: tl.constexpr,
    DOUBLE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    outputs = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1).to(tl.int64) * BLOCK_M
    lanes = _lanes(
        pairs_ptr,
        words_ptr,
        absmax_ptr,
        scale_ptr,
        offset_ptr,
        level8_ptr,
        levels_ptr,
        row,
        m,
        n,
        k,
        outputs,
        BLOCK_SHIFT,
        DOUBLE,
        tl.float32,
        BLOCK_M,
        BLOCK_N,
    )
    for index in tl.static_range(BLOCK_M):
        if row + index < m:
            _store(
                lanes[index],
                pairs_ptr,
                words_ptr,
                absmax_ptr,
                scale_ptr,
                offset_ptr,
                level8_ptr,
                levels_ptr,
                largest_ptr,
                bias_ptr,
                y_ptr,
                row + index,
                m,
                n,
                k,
                outputs,
                MULTIPLIER,
                BLOCK_SHIFT,
                DOUBLE,
                HAS_BIAS,
                BLOCK_N,
            )


def linear(
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
    """As `quant.kernels.reference.blockwise_linear` for x of float32, float16 or bfloat16 and in % 16 == 0, with the
    bits of the kernels on the CPU.
    """
    k = x.shape[-1]
    rows = x.reshape(-1, k).contiguous()
    m = rows.shape[0]
    y = x.new_empty((*x.shape[:-1], out_features))
    if not y.numel():
        return y
    levels = table(fixed_point_levels(codebook), torch.int32, x.device)
    level8 = table(DYNAMIC8_LEVELS, torch.float32, x.device)
    block_m = min(BLOCK_M, triton.next_power_of_2(m))
    with torch.cuda.device_of(x):
        q, largest = fixed_point(rows, LANES)
        _few_rows[(triton.cdiv(out_features, BLOCK_N), triton.cdiv(m, block_m))](
            *(q.view(torch.int32), _words(packed), absmax.contiguous()),
            *(None if absmax_scale is None else absmax_scale.contiguous(), absmax_offset),
            *(level8, levels, largest, bias, y, m, out_features, k),
            MULTIPLIER=FIXED_POINT[codebook],
            BLOCK_SHIFT=block_size.bit_length() - 1,
            DOUBLE=absmax_scale is not None,
            HAS_BIAS=bias is not None,
            BLOCK_M=block_m,
            BLOCK_N=BLOCK_N,
            num_warps=4,
            enable_fp_fusion=False,
        )
    return y


def _words(packed: Tensor) -> Tensor:
    """uint8 [bytes] as int64: copied where it does not begin at a whole word."""
    packed = packed.contiguous()
    return (packed.clone() if packed.storage_offset() % 8 else packed).view(torch.int64)
