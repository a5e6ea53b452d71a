"""The absmax of blocks, as the kernels of 4-bit weights read them."""

import triton
import triton.language as tl


@triton.jit
def block_absmax(absmax_ptr, scale_ptr, offset_ptr, level8_ptr, blocks, mask, DOUBLE: tl.constexpr):
    """absmax of `blocks`, float32, 0 where masked out; with double quantization float32(level * scale) + offset."""
    if DOUBLE:
        level = tl.load(level8_ptr + tl.load(absmax_ptr + blocks, mask=mask, other=0).to(tl.int32))
        scaled = level * tl.load(scale_ptr + (blocks >> 8), mask=mask, other=0.0)
        absmax = tl.where(mask, scaled + tl.load(offset_ptr), 0.0)
    else:
        absmax = tl.load(absmax_ptr + blocks, mask=mask, other=0.0)
    return absmax
