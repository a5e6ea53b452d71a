"""Rows of activations as 16-bit fixed point, which is what the integer products multiply with.

q_k = round(x_k * (32767 / a)) with a = max |x_k| is that of the CPU's kernels to the bit (`quant.kernels.cpu`). It is
stored as each product reads it:

* `ROWS`, int16 [rows, in]: as it is.
* `PLANES`, int8 [2, rows, in]: tensor cores multiply int8 with int8 only, so q = 256 * high + (low + 128), both digits
  of -128..127; balanced ones would leave int8 at q > 32639. The products put the 128 back: sum_k q_k c_k =
  256 * sum(high_k c_k) + sum(low_k c_k) + 128 * sum(c_k).
* `LANES`, int16 [rows, steps of 256, 8, 16, 2], zeros after the last: pair p of group g of a step at [p, g], so that 16
  threads that each multiply a group of 16 read side by side.

Rounding half to even is done by adding and subtracting 1.5 * 2^52, which is exact for |v| < 2^51, and the same under
Triton's interpreter, which has none of the device's functions.

What it costs: one pass over x to find a, and one to write two bytes per element, with three float64 operations for
each, which GPUs other than those of data centres do at a 64th of the rate of float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, PLANES, LANES = 0, 1, 2
STEP = 256
"""Elements of a step in `LANES`: 16 groups of 16."""
CHUNK = 1024
"""Elements of a row that a program holds at once."""


@triton.jit
def _fixed_point(x_ptr, q_ptr, largest_ptr, rows, k, stored, LAYOUT: tl.constexpr, CHUNK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros([CHUNK], tl.float32)
    broken = tl.zeros([CHUNK], tl.int32)
    for start in range(0, k, CHUNK):
        columns = start + tl.arange(0, CHUNK)
        magnitude = tl.abs(tl.load(x_ptr + row * k + columns, mask=columns < k, other=0.0).to(tl.float32))
        finite = magnitude < float("inf")
        broken = tl.where(finite, broken, 1)
        largest = tl.maximum(largest, tl.where(finite, magnitude, 0.0))
    a = tl.max(largest, axis=0)
    is_broken = tl.max(broken, axis=0) != 0
    tl.store(largest_ptr + row, tl.where(is_broken, float("nan"), a))
    used = (a > 0.0) & (is_broken == 0)
    inverse = tl.full([], 32767.0, tl.float64) / tl.where(used, a, 1.0).to(tl.float64)
    for start in range(0, stored, CHUNK):
        columns = start + tl.arange(0, CHUNK)
        inside = columns < stored
        x = tl.load(x_ptr + row * k + columns, mask=columns < k, other=0.0).to(tl.float32)
        value = tl.where(used, x, 0.0).to(tl.float64) * inverse
        q = ((value + 6755399441055744.0) - 6755399441055744.0).to(tl.int32)
        if LAYOUT == 1:
            tl.store(q_ptr + row * k + columns, (q >> 8).to(tl.int8), mask=inside)
            tl.store(q_ptr + (rows + row) * k + columns, ((q & 255) - 128).to(tl.int8), mask=inside)
        else:
            places = columns
            if LAYOUT == 2:
                group, pair, half = columns // 16 % 16, columns // 2 % 8, columns % 2
                places = columns // 256 * 256 + pair * 32 + group * 2 + half
            tl.store(q_ptr + row * stored + places, q.to(tl.int16), mask=inside)


def fixed_point(x: Tensor, layout: int) -> tuple[Tensor, Tensor]:
    """x float [rows, in], contiguous -> q as `layout` has it, and the largest magnitude of each row: float32 [rows],
    NaN where a value of the row is not finite (its q are 0), which makes every output of the row NaN.
    """
    rows, k = x.shape
    stored = triton.cdiv(k, STEP) * STEP if layout == LANES else k
    q = (
        x.new_empty((2, rows, k), dtype=torch.int8)
        if layout == PLANES
        else x.new_empty((rows, stored), dtype=torch.int16)
    )
    largest = x.new_empty(rows, dtype=torch.float32)
    options = {"LAYOUT": layout, "CHUNK": CHUNK, "num_warps": 4, "enable_fp_fusion": False}
    _fixed_point[(rows,)](x, q, largest, rows, k, stored, **options)
    return q, largest
