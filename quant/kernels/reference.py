"""y = x W'^T + b the plain way: dequantize the whole weight and multiply. Always available, on every device.

Computed in float32 (float64 for a float64 x) whatever the dtype of x, so the only error beyond the codes' own is that
of one float32 matrix product and one rounding to x's dtype; scales are applied before the sum, so float16 activations
do not overflow.

What it costs: every call writes and reads a float32 copy of the weight, which is what made the report this project
grew out of 8 times slower than the float model. What it does not promise: the same bits for every batch size and
thread count, since the sum of floats follows the BLAS's blocking; tests hold it to the bound of a K-term dot product
instead.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from quant.numerics.blockwise import dequantize_blocks
from quant.numerics.double_quantization import dequantize_absmax
from quant.numerics.int8 import dequantize_rows


def takes(x: Tensor, rows: int, *operands: Any) -> bool:
    """Everything."""
    return True


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    compute = torch.promote_types(x.dtype, torch.float32)
    bias = None if bias is None else bias.to(compute)
    # Autocast would round the weight to 16 bits on its way into F.linear.
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(compute), weight.to(compute), bias).to(x.dtype)


def w8a16_linear(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in], codes int8 [out, in], scales float32 [out], bias [out] -> [..., out] in x's dtype."""
    return _linear(x, dequantize_rows(codes, scales), bias)


def w8a16_grad_input(grad: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """grad [..., out] -> gradient for x, [..., in] in grad's dtype."""
    return _linear(grad, dequantize_rows(codes, scales).t(), None)


def _dequantize(
    packed: Tensor,
    absmax: Tensor,
    absmax_scale: Tensor | None,
    absmax_offset: Tensor | None,
    codebook: str,
    block_size: int,
    shape: tuple[int, int],
) -> Tensor:
    if absmax_scale is not None and absmax_offset is not None:
        absmax = dequantize_absmax(absmax, absmax_scale, absmax_offset)
    return dequantize_blocks(packed, absmax, codebook, block_size, shape[0] * shape[1]).view(shape)


def blockwise_linear(
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
    """x [..., in], weight [out, in] in blocks, bias [out] -> [..., out] in x's dtype.

    Args:
        packed: uint8 [ceil(out * in / 2)].
        absmax: float32 [blocks], or with double quantization uint8 [blocks], and then
        absmax_scale: float32 [ceil(blocks / 256)]; absmax_offset: float32 [].
        codebook: "nf4", "fp4" or "int4".
    """
    shape = (out_features, x.shape[-1])
    return _linear(x, _dequantize(packed, absmax, absmax_scale, absmax_offset, codebook, block_size, shape), bias)


def blockwise_grad_input(
    grad: Tensor,
    packed: Tensor,
    absmax: Tensor,
    absmax_scale: Tensor | None,
    absmax_offset: Tensor | None,
    codebook: str,
    block_size: int,
    in_features: int,
) -> Tensor:
    """grad [..., out] -> gradient for x, [..., in] in grad's dtype."""
    shape = (grad.shape[-1], in_features)
    weight = _dequantize(packed, absmax, absmax_scale, absmax_offset, codebook, block_size, shape)
    return _linear(grad, weight.t(), None)
