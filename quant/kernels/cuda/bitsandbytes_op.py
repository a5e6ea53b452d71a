"""bitsandbytes' product of NF4 and FP4 weights, on tensors as we store them.

`bitsandbytes::gemm_4bit` (from bitsandbytes 0.50) takes our codes, absmax and double quantization as they are, for they
are laid out alike, and chooses between kernels that it has measured on many GPUs, some of which write the whole weight
in floats. Weights are rounded to the dtype of x. Earlier versions have no such op and are not used.

The package is imported when a product asks for it, and nowhere else below `quant.integrations`.
"""

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from quant.kernels.cuda.operands import blockwise_operands
from quant.numerics.double_quantization import dynamic_levels


@functools.cache
def gemm() -> Any:
    """The op, or None where bitsandbytes is not installed or has no such op."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return None
    importlib.import_module("bitsandbytes")
    op = getattr(torch.ops.bitsandbytes, "gemm_4bit", None)
    return None if op is None else op.default


@functools.cache
def has_cuda() -> bool:
    """Whether bitsandbytes has loaded its library for CUDA: without, the op is there all the same, and raises."""
    return bool(getattr(importlib.import_module("bitsandbytes.cextension").lib, "compiled_with_cuda", False))


def takes(x: Tensor, *operands: Any) -> bool:
    """Whether there is an op for the weight; `operands` are those of `linear` after x."""
    *_, codebook, block_size, _, _ = operands
    # It warns in every call where a row does not end with a block.
    whole = block_size > 0 and x.shape[-1] % block_size == 0
    return codebook in ("nf4", "fp4") and whole and gemm() is not None and has_cuda()


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
    """As `quant.kernels.reference.blockwise_linear` for x of float16 or bfloat16, with weights rounded to x's dtype.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    _, packed, absmax, absmax_scale, absmax_offset, bias = blockwise_operands(
        x, packed, absmax, absmax_scale, absmax_offset, block_size, out_features, bias
    )
    weight = packed.view(-1, 1), (out_features, x.shape[-1])
    bias = None if bias is None else bias.to(x.dtype)
    if absmax_scale is None:
        y: Tensor = gemm()(x, *weight, absmax, block_size, codebook, bias)
        return y
    level8 = dynamic_levels(x.device)
    y = gemm()(x, *weight, absmax_scale, block_size, codebook, bias, absmax, level8, absmax_offset)
    return y
