"""y = x W'^T + b the plain way: dequantize the whole weight and multiply. Always available, on every device.

Computed in float32 (float64 for a float64 x) whatever the dtype of x, so the only error beyond the codes' own is that
of one float32 matrix product and one rounding to x's dtype; scales are applied before the sum, so float16 activations
do not overflow.

What it costs: every call writes and reads a float32 copy of the weight, which is what made the report this project
grew out of 8 times slower than the float model. What it does not promise: the same bits for every batch size and
thread count, since the sum of floats follows the BLAS's blocking; tests hold it to the bound of a K-term dot product
instead.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from quant.numerics.blockwise import dequantize_blocks
from quant.numerics.int8 import dequantize_rows


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


def blockwise_linear(
    x: Tensor, packed: Tensor, absmax: Tensor, codebook: str, block_size: int, out_features: int, bias: Tensor | None
) -> Tensor:
    """x [..., in], packed uint8, absmax float32 [blocks], bias [out] -> [..., out] in x's dtype."""
    weight = dequantize_blocks(packed, absmax, codebook, block_size, out_features * x.shape[-1])
    return _linear(x, weight.view(out_features, x.shape[-1]), bias)


def blockwise_grad_input(
    grad: Tensor, packed: Tensor, absmax: Tensor, codebook: str, block_size: int, in_features: int
) -> Tensor:
    """grad [..., out] -> gradient for x, [..., in] in grad's dtype."""
    weight = dequantize_blocks(packed, absmax, codebook, block_size, grad.shape[-1] * in_features)
    return _linear(grad, weight.view(grad.shape[-1], in_features).t(), None)
