"""The last step of every integer product: float64 to the dtype of the output, as the CPU's kernels round."""

import triton
import triton.language as tl


@triton.jit
def finish(y, dtype: tl.constexpr):
    """y float64, rounded to float32 and that to `dtype`, half to even; NaN becomes the positive quiet one of the CPU,
    where the hardware's conversion has another.
    """
    single = y.to(tl.float32)
    rounded = single.to(dtype)
    if dtype == tl.float32:
        bits = tl.where(single == single, rounded.to(tl.int32, bitcast=True), 0x7FC00000)
    elif dtype == tl.bfloat16:
        bits = tl.where(single == single, rounded.to(tl.int16, bitcast=True), 0x7FC0).to(tl.int16)
    else:
        bits = tl.where(single == single, rounded.to(tl.int16, bitcast=True), 0x7E00).to(tl.int16)
    return bits.to(dtype, bitcast=True)
