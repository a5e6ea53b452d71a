"""NF4, FP4 and INT4 on CUDA for many rows: dequantize a tile, multiply it in the dtype of x on tensor cores.

Each weight is float32(level * absmax) rounded to x's dtype, float16 or bfloat16, products are exact and summed in
float32, and the sum plus the bias is rounded once: a float layer of these weights computes the same but for the order
and the rounding of its sum, which tensor cores may cut off. So unlike the kernels for few rows
(`quant.kernels.cuda.blockwise`, which says what exact ones would cost) this one does not have the CPU's bits; the tests
hold it to the bound of its roundings. No weight is written to memory: a tile is dequantized once for every `BLOCK_M`
rows of x.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.codebooks import LEVELS
from quant.kernels.cuda.absmax import block_absmax
from quant.kernels.cuda.operands import blockwise_operands
from quant.kernels.cuda.tables import table
from quant.numerics.double_quantization import dynamic_levels

BLOCK_M, BLOCK_N, BLOCK_K = 64, 64, 64
WARPS, STAGES = 4, 3
"""Unmeasured: no GPU has run them yet."""


@triton.jit
def _many_rows(
    x_ptr,
    packed_ptr,
    absmax_ptr,
    scale_ptr,
    offset_ptr,
    level8_ptr,
    levels_ptr,
    bias_ptr,
    y_ptr,
    m,
    n,
    k,
    BLOCK_SHIFT: tl.constexpr,
    DOUBLE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    outputs = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, k, BLOCK_K):
        columns = start + tl.arange(0, BLOCK_K)
        x_inside = (rows[:, None] < m) & (columns[None, :] < k)
        x = tl.load(x_ptr + rows[:, None] * k + columns[None, :], mask=x_inside, other=0.0)
        evens = start + 2 * tl.arange(0, BLOCK_K // 2)
        inside = (outputs[:, None] < n) & (evens[None, :] < k)
        flat = outputs[:, None] * k + evens[None, :]
        byte = tl.load(packed_ptr + (flat >> 1), mask=inside, other=0).to(tl.int32)
        absmax = block_absmax(absmax_ptr, scale_ptr, offset_ptr, level8_ptr, flat >> BLOCK_SHIFT, inside, DOUBLE)
        even = (tl.load(levels_ptr + (byte >> 4)) * absmax).to(x.dtype)
        odd = (tl.load(levels_ptr + (byte & 15)) * absmax).to(x.dtype)
        sums = tl.dot(x, tl.trans(tl.interleave(even, odd)), sums)
    if HAS_BIAS:
        sums += tl.load(bias_ptr + outputs, mask=outputs < n, other=0.0).to(tl.float32)[None, :]
    y_inside = (rows[:, None] < m) & (outputs[None, :] < n)
    tl.store(y_ptr + rows[:, None] * n + outputs[None, :], sums.to(y_ptr.dtype.element_ty), mask=y_inside)


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
    """As `quant.kernels.reference.blockwise_linear` for x of float16 or bfloat16 and in % 16 == 0, with weights rounded
    to x's dtype.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    rows, packed, absmax, absmax_scale, absmax_offset, bias = blockwise_operands(
        x, packed, absmax, absmax_scale, absmax_offset, block_size, out_features, bias
    )
    m, k = rows.shape
    y = x.new_empty((*x.shape[:-1], out_features))
    if not out_features:
        return y
    level8 = None if absmax_scale is None else dynamic_levels(x.device)
    with torch.cuda.device_of(x):
        _many_rows[(triton.cdiv(m, BLOCK_M), triton.cdiv(out_features, BLOCK_N))](
            *(rows, packed, absmax),
            *(absmax_scale, absmax_offset),
            *(level8, table(LEVELS[codebook], torch.float32, x.device)),
            *(bias, y, m, out_features, k),
            BLOCK_SHIFT=block_size.bit_length() - 1,
            DOUBLE=absmax_scale is not None,
            HAS_BIAS=bias is not None,
            BLOCK_M=BLOCK_M,
            BLOCK_N=BLOCK_N,
            BLOCK_K=BLOCK_K,
            num_warps=WARPS,
            num_stages=STAGES,
            enable_fp_fusion=False,
        )
    return y
