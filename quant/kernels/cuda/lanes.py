"""The 16 lanes of floats in which products with 4-bit weights are summed: exact sums of groups of 16 inputs, each times
the absmax of its block by a fused multiply-add, group G in lane G mod 16 (`quant.kernels.cpu`).

A step of 256 inputs is one group for each lane. A thread has one lane of an output: it reads its group as one word of
64 bits, looks the codes up in a table of 16 integers, one cache line, and multiplies them with the pairs of activations
that they belong to. Rows of x share what was looked up.
"""

import triton
import triton.language as tl

from quant.kernels.cuda.absmax import block_absmax


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
def lanes_of(
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
def in_order(lanes):
    """((lane 0 + lane 1) + lane 2) + ...: all terms but one of each sum are zero, so their order does not matter."""
    lane = tl.arange(0, 16)[None, :]
    total = tl.sum(tl.where(lane == 0, lanes, 0.0), axis=1)
    for index in tl.static_range(1, 16):
        total += tl.sum(tl.where(lane == index, lanes, 0.0), axis=1)
    return total
