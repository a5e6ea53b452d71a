"""NF4, FP4 and INT4 on CUDA in integers, for few rows: the bits of the CPU's kernels (`quant.kernels.cpu`).

A program multiplies up to `BLOCK_M` rows of x with `BLOCK_N` outputs in the lanes of `quant.kernels.cuda.lanes`, adds
these in order, and where float32 did not hold them computes them again in float64.

Taken are inputs in multiples of 16 (all models we know): groups then never cross the end of a block, nor rows begin
within a byte. Others are left to `quant.kernels.reference`.

Why not for many rows: on tensor cores a group of 16 elements would take four int8 products of 32 (two planes on either
side, half of each masked), and per group and output a conversion, three shifts and sums, and a multiply-add on the CUDA
cores: five instructions for 16 products. At 512 rows of Phi-3's gate_up that is 8e9 instructions, by the data sheet of
an H100 SXM (132 multiprocessors of 128 lanes at 1.75 GHz) at least 0.27 ms, where the product in bfloat16 (989 TFLOP/s)
takes 0.05. Many rows therefore are `quant.kernels.cuda.dequantizing`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.codebooks import FIXED_POINT, fixed_point_levels
from quant.kernels.cuda.activations import LANES, fixed_point
from quant.kernels.cuda.lanes import in_order, lanes_of
from quant.kernels.cuda.operands import blockwise_operands
from quant.kernels.cuda.rounding import finish
from quant.kernels.cuda.tables import table
from quant.numerics.double_quantization import dynamic_levels

BLOCK_M, BLOCK_N = 4, 8
"""Rows of x, at most, and outputs per program. Unmeasured: no GPU has run it yet."""


@triton.jit
def _output_row(
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
    narrow = in_order(lanes)
    finite = tl.abs(narrow) < float("inf")
    total = narrow.to(tl.float64)
    if tl.min(finite.to(tl.int32), axis=0) == 0:
        # An absmax near the end of float32's range.
        wide, _, _, _ = lanes_of(
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
        total = tl.where(finite, total, in_order(wide))
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
    lanes = lanes_of(
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
    first, second, third, fourth = lanes
    # Not unrolled: four copies of what follows would be compiled.
    for index in range(0, tl.minimum(BLOCK_M, m - row).to(tl.int32)):
        chosen = tl.where(index == 0, first, tl.where(index == 1, second, tl.where(index == 2, third, fourth)))
        _output_row(
            chosen,
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
    levels = table(fixed_point_levels(codebook), torch.int32, x.device)
    level8 = None if absmax_scale is None else dynamic_levels(x.device)
    block_m = min(BLOCK_M, triton.next_power_of_2(m))
    with torch.cuda.device_of(x):
        q, largest = fixed_point(rows, LANES)
        _few_rows[(triton.cdiv(out_features, BLOCK_N), triton.cdiv(m, block_m))](
            *(q.view(torch.int32), _words(packed), absmax),
            *(absmax_scale, absmax_offset),
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
    return (packed.clone() if packed.data_ptr() % 8 else packed).view(torch.int64)
