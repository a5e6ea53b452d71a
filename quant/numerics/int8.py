"""Symmetric absmax int8 with one scale per output row (the weight half of W8A16).

    scale[i]    = max_j |w[i, j]| / 127                      float32
    code[i, j]  = clamp(round(w[i, j] / scale[i]), -127, 127) half to even
    w'[i, j]    = code[i, j] * scale[i]

Everything is computed in float32 whatever the input dtype, so a bfloat16 weight gets the codes of its float32 copy (a
scale computed in bfloat16 costs about 0.6 dB). The division is a true division: multiplying by a reciprocal would
overflow for tiny rows. |w - w'| <= scale * (1/2 + 127 * 2^-23): the quotient is rounded once before it becomes a
code, and code * scale once when it is read; the scale's own rounding costs nothing, since both use the rounded one.

A row whose scale would be below 2^-125 (absmax below about 3e-36) is stored as zeros with scale 0, so the result does
not depend on whether the CPU flushes subnormals. Code -128 is never produced: negating a weight negates its codes.
Refused: NaN, Inf, anything that is not a two-dimensional float tensor.

With `factors` the scale is the one of least squared error that `quant.numerics.scale_search` finds.

On the CPU the same formulas run natively (`quant.native`), but for the search, bit for bit; torch's come next, and tell
what is not finite.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from quant import native
from quant.errors import QuantError
from quant.numerics.checks import check_dtype, check_finite
from quant.numerics.scale_search import search_scales

QMAX = 127
SMALLEST_SCALE = 2.0**-125
"""Twice the smallest normal float32: a subnormal weight is less than half of it and gets code 0, flushed or not."""
CHUNK_ELEMENTS = 1 << 22
"""Rows are converted in chunks of about this many elements, so the float32 temporaries stay near 16 MB each."""


def _nearest(weights: Tensor, scales: Tensor) -> Tensor:
    """float32 [n, rows]: the integers nearest to weights (float32 [n, rows]) over scales (float32 [rows])."""
    return (weights / scales).round_().clamp_(-QMAX, QMAX)


def quantize_rows(weight: Tensor, factors: Sequence[float] = ()) -> tuple[Tensor, Tensor]:
    """Quantize each row of `weight`.

    Args:
        weight: [out, in], float64/32/16 or bfloat16, any strides; not changed.
        factors: multiples of absmax / 127 to search the scale among, ascending; none is not to search.

    Returns:
        codes: int8 [out, in], contiguous; scales: float32 [out], 0 for rows of zeros.

    Raises:
        QuantError: wrong dtype or number of dimensions, NaN or Inf.
    """
    check_dtype(weight)
    if weight.dim() != 2:
        raise QuantError(f"W8A16 needs a weight [out, in], got shape {list(weight.shape)}")
    out_features, in_features = weight.shape
    if not factors and native.reads(weight):
        quantized = native.quantize_int8(weight)
        if quantized is not None:
            return quantized
    codes = torch.empty((out_features, in_features), dtype=torch.int8, device=weight.device)
    scales = torch.zeros(out_features, dtype=torch.float32, device=weight.device)
    if weight.numel() == 0:
        return codes, scales
    rows = max(1, CHUNK_ELEMENTS // in_features)
    for start in range(0, out_features, rows):
        chunk = weight[start : start + rows].float()
        absmax = chunk.abs().amax(dim=1)
        check_finite(absmax, weight)
        scale = absmax / QMAX
        scale = torch.where(scale >= SMALLEST_SCALE, scale, 0.0)
        # Rounded up, the largest floats' scale times 127 would be infinite.
        scale = torch.where(torch.isinf(scale * QMAX), torch.nextafter(scale, torch.zeros_like(scale)), scale)
        if factors:
            scale = search_scales(chunk, scale, _nearest, factors)
        # Zero rows are divided by 1 instead of 0; tiny ones too, and their quotients round to code 0.
        codes[start : start + rows] = _nearest(chunk.t(), torch.where(scale > 0, scale, 1.0)).t().to(torch.int8)
        scales[start : start + rows] = scale
    return codes, scales


def dequantize_rows(codes: Tensor, scales: Tensor) -> Tensor:
    """float32 [out, in] = codes (int8 [out, in]) times scales (float32 [out])."""
    return codes.float() * scales[:, None]
