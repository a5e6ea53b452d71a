"""W8A16 on CUDA in integers, with the bits of the CPU's kernels (`quant.kernels.cpu`) for any number of rows.

One row is multiplied by the CUDA cores, which read each code once: each of 512 columns has a sum in int32, of one
product in 512 (of 131072 inputs, 256 products of 127 * 32767), widened to int64 at the end. From two rows on tensor
cores multiply both planes of the activations (`quant.kernels.cuda.activations`) with the codes, int8 by int8 with sums
in int32, which are exact up to `quant.kernels.cuda.LARGEST_K` inputs. As integer sums depend on no order, tiles may be
of any size. What is left are three float64 operations per output, in the order of the CPU's.

What it costs beside a float product: a second int8 product, which tensor cores do at twice the rate of bfloat16, and
summing the codes, for the 128 that the low plane is off by.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.cuda.activations import PLANES, ROWS, fixed_point
from quant.kernels.cuda.operands import int8_operands
from quant.kernels.cuda.rounding import finish

ONE_ROW_OUTPUTS, ONE_ROW_INPUTS = 4, 512
TILES = {16: (64, 128, 4, 4), 64: (128, 128, 8, 3), 128: (64, 128, 8, 3)}
"""Outputs and inputs that a program multiplies at once; for more rows, rows of x -> outputs, inputs, warps and stages.
Unmeasured: no GPU has run them yet.
"""


@triton.jit
def _one_row(
    q_ptr,
    largest_ptr,
    codes_ptr,
    scales_ptr,
    bias_ptr,
    y_ptr,
    n,
    k,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    outputs = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    sums = tl.zeros([BLOCK_N, BLOCK_K], tl.int32)
    for start in range(0, k, BLOCK_K):
        columns = start + tl.arange(0, BLOCK_K)
        inside = columns < k
        q = tl.load(q_ptr + columns, mask=inside, other=0).to(tl.int32)
        both = (outputs[:, None] < n) & inside[None, :]
        codes = tl.load(codes_ptr + outputs[:, None] * k + columns[None, :], mask=both, other=0).to(tl.int32)
        sums += codes * q[None, :]
    total = tl.sum(sums.to(tl.int64), axis=1)
    unit = tl.load(largest_ptr).to(tl.float64) / 32767.0
    scales = tl.load(scales_ptr + outputs, mask=outputs < n, other=0.0).to(tl.float64)
    y = (total.to(tl.float64) * unit) * scales
    if HAS_BIAS:
        y += tl.load(bias_ptr + outputs, mask=outputs < n, other=0.0).to(tl.float64)
    tl.store(y_ptr + outputs, finish(y, y_ptr.dtype.element_ty), mask=outputs < n)


@triton.jit
def _rows(
    planes_ptr,
    largest_ptr,
    codes_ptr,
    scales_ptr,
    bias_ptr,
    y_ptr,
    m,
    n,
    k,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # Programs that follow each other share their outputs' codes, which are the larger operand.
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    outputs = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    high_sums = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    low_sums = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    code_sums = tl.zeros([BLOCK_N], tl.int32)
    for start in range(0, k, BLOCK_K):
        columns = start + tl.arange(0, BLOCK_K)
        of_x = (rows[:, None] < m) & (columns[None, :] < k)
        of_codes = (outputs[None, :] < n) & (columns[:, None] < k)
        high = tl.load(planes_ptr + rows[:, None] * k + columns[None, :], mask=of_x, other=0)
        low = tl.load(planes_ptr + (m + rows[:, None]) * k + columns[None, :], mask=of_x, other=0)
        codes = tl.load(codes_ptr + outputs[None, :] * k + columns[:, None], mask=of_codes, other=0)
        high_sums = tl.dot(high, codes, high_sums, out_dtype=tl.int32)
        low_sums = tl.dot(low, codes, low_sums, out_dtype=tl.int32)
        code_sums += tl.sum(codes.to(tl.int32), axis=0)
    total = high_sums.to(tl.int64) * 256 + low_sums.to(tl.int64) + code_sums.to(tl.int64)[None, :] * 128
    unit = tl.load(largest_ptr + rows, mask=rows < m, other=0.0).to(tl.float64) / 32767.0
    scales = tl.load(scales_ptr + outputs, mask=outputs < n, other=0.0).to(tl.float64)
    y = (total.to(tl.float64) * unit[:, None]) * scales[None, :]
    if HAS_BIAS:
        y += tl.load(bias_ptr + outputs, mask=outputs < n, other=0.0).to(tl.float64)[None, :]
    inside = (rows[:, None] < m) & (outputs[None, :] < n)
    tl.store(y_ptr + rows[:, None] * n + outputs[None, :], finish(y, y_ptr.dtype.element_ty), mask=inside)


def linear(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """As `quant.kernels.reference.w8a16_linear`, with the bits of the kernels on the CPU, for x of float32, float16 or
    bfloat16 and up to `quant.kernels.cuda.LARGEST_K` inputs.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    rows, codes, scales, bias = int8_operands(x, codes, scales, bias)
    m, (n, k) = len(rows), codes.shape
    y = x.new_empty((*x.shape[:-1], n))
    if not n:
        return y
    operands = codes, scales, bias, y
    options: dict[str, Any] = {"HAS_BIAS": bias is not None, "enable_fp_fusion": False}
    with torch.cuda.device_of(x):
        q, largest = fixed_point(rows, PLANES if m > 1 else ROWS)
        if m == 1:
            options |= {"BLOCK_N": ONE_ROW_OUTPUTS, "BLOCK_K": ONE_ROW_INPUTS}
            grid = (triton.cdiv(n, ONE_ROW_OUTPUTS),)
            _one_row[grid](q, largest, *operands, n, k, num_warps=4, **options)
        else:
            block_m, (block_n, block_k, warps, stages) = tile(m)
            options |= {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k}
            _rows[triton.cdiv(m, block_m), triton.cdiv(n, block_n)](
                q, largest, *operands, m, n, k, num_warps=warps, num_stages=stages, **options
            )
    return y


def tile(rows: int) -> tuple[int, tuple[int, int, int, int]]:
    """The tile for so many rows: the smallest that holds them, else the largest."""
    return next(((size, rest) for size, rest in TILES.items() if rows <= size), max(TILES.items()))
