"""The operators that quantized layers call, as torch.library ops with fake kernels and gradients.

    quant::w8a16_linear(x, codes, scales, bias) -> y
    quant::blockwise_linear(x, packed, absmax, codebook, block_size, out_features, bias) -> y
    quant::dequantize_absmax(codes, scales, offset) -> absmax

x is [..., in] of any float dtype, y is [..., out] of the same dtype. Weights are frozen: gradients go to x (through
`quant::w8a16_grad_input` and `quant::blockwise_grad_input`) and to the bias. Being ops they are opaque to
`torch.compile` and keep only the codes for backward, never a float copy of the weight.
"""

from typing import Any

import torch
from torch import Tensor

from quant.kernels import reference
from quant.numerics.double_quantization import dequantize_absmax as _dequantize_absmax


def _grad_bias(grad: Tensor, bias_dtype: torch.dtype) -> Tensor:
    compute = torch.promote_types(grad.dtype, torch.float32)
    return grad.reshape(-1, grad.shape[-1]).to(compute).sum(0).to(bias_dtype)


@torch.library.custom_op("quant::dequantize_absmax", mutates_args=())
def dequantize_absmax(codes: Tensor, scales: Tensor, offset: Tensor) -> Tensor:
    """See `quant.numerics.double_quantization.dequantize_absmax`."""
    return _dequantize_absmax(codes, scales, offset)


@dequantize_absmax.register_fake
def _(codes: Tensor, scales: Tensor, offset: Tensor) -> Tensor:
    return codes.new_empty(codes.shape, dtype=torch.float32)


@torch.library.custom_op("quant::w8a16_grad_input", mutates_args=())
def w8a16_grad_input(grad: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """See `quant.kernels.reference.w8a16_grad_input`."""
    return reference.w8a16_grad_input(grad, codes, scales)


@w8a16_grad_input.register_fake
def _(grad: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    return grad.new_empty(*grad.shape[:-1], codes.shape[1])


@torch.library.custom_op("quant::w8a16_linear", mutates_args=())
def w8a16_linear(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """See `quant.kernels.reference.w8a16_linear`."""
    return reference.w8a16_linear(x, codes, scales, bias)


@w8a16_linear.register_fake
def _(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], codes.shape[0])


def _w8a16_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, codes, scales, bias = inputs
    ctx.save_for_backward(codes, scales)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _w8a16_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    codes, scales = ctx.saved_tensors
    grad_x = w8a16_grad_input(grad, codes, scales) if ctx.needs_input_grad[0] else None
    grad_bias = _grad_bias(grad, ctx.bias_dtype) if ctx.needs_input_grad[3] else None
    return grad_x, None, None, grad_bias


w8a16_linear.register_autograd(_w8a16_backward, setup_context=_w8a16_context)


@torch.library.custom_op("quant::blockwise_grad_input", mutates_args=())
def blockwise_grad_input(
    grad: Tensor, packed: Tensor, absmax: Tensor, codebook: str, block_size: int, in_features: int
) -> Tensor:
    """See `quant.kernels.reference.blockwise_grad_input`."""
    return reference.blockwise_grad_input(grad, packed, absmax, codebook, block_size, in_features)


@blockwise_grad_input.register_fake
def _(grad: Tensor, packed: Tensor, absmax: Tensor, codebook: str, block_size: int, in_features: int) -> Tensor:
    return grad.new_empty(*grad.shape[:-1], in_features)


@torch.library.custom_op("quant::blockwise_linear", mutates_args=())
def blockwise_linear(
    x: Tensor, packed: Tensor, absmax: Tensor, codebook: str, block_size: int, out_features: int, bias: Tensor | None
) -> Tensor:
    """See `quant.kernels.reference.blockwise_linear`."""
    return reference.blockwise_linear(x, packed, absmax, codebook, block_size, out_features, bias)


@blockwise_linear.register_fake
def _(
    x: Tensor, packed: Tensor, absmax: Tensor, codebook: str, block_size: int, out_features: int, bias: Tensor | None
) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features)


def _blockwise_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, packed, absmax, codebook, block_size, _, bias = inputs
    ctx.save_for_backward(packed, absmax)
    ctx.codebook, ctx.block_size, ctx.in_features = codebook, block_size, x.shape[-1]
    ctx.bias_dtype = None if bias is None else bias.dtype


def _blockwise_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    packed, absmax = ctx.saved_tensors
    grad_x = None
    if ctx.needs_input_grad[0]:
        grad_x = blockwise_grad_input(grad, packed, absmax, ctx.codebook, ctx.block_size, ctx.in_features)
    grad_bias = _grad_bias(grad, ctx.bias_dtype) if ctx.needs_input_grad[6] else None
    return grad_x, None, None, None, None, None, grad_bias


blockwise_linear.register_autograd(_blockwise_backward, setup_context=_blockwise_context)
