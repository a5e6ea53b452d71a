"""Operands of the products: checked before their addresses are taken, on the CPU and on GPUs alike.

Kernels are given addresses and sizes and read what is there. One byte too few is read from another tensor or from
nowhere, on a GPU by a launch that has long been returned from; so what does not fit is an error by name here. What it
costs is a comparison or two per operand, a microsecond of a product.
"""

import torch
from torch import Tensor

from quant.errors import QuantError


def check_operand(name: str, tensor: Tensor, dtype: torch.dtype, size: int, device: torch.device) -> None:
    """Raises:
    QuantError: not `size` elements of `dtype` side by side on `device`.
    """
    fits = tensor.dtype == dtype and tensor.device == device and tensor.numel() == size
    if not fits or not tensor.is_contiguous() or tensor.is_neg():
        raise QuantError(
            f"{name}: the kernel needs {size} contiguous {dtype} on {device}, got shape {list(tensor.shape)}, "
            f"{tensor.dtype}, {tensor.device}, strides {tensor.stride()}"
        )


def check_int8(device: torch.device, codes: Tensor, scales: Tensor) -> tuple[int, int]:
    """out_features and in_features of codes int8 [out, in] and scales float32 [out].

    Raises:
        QuantError: others.
    """
    n, k = codes.shape if codes.dim() == 2 else (0, -1)
    check_operand("codes", codes, torch.int8, n * k, device)
    check_operand("scales", scales, torch.float32, n, device)
    return n, k


def check_blockwise(
    device: torch.device,
    out_features: int,
    in_features: int,
    block_size: int,
    packed: Tensor,
    absmax: Tensor,
    absmax_scales: Tensor | None,
    absmax_offset: Tensor | None,
) -> None:
    """Whether these are a weight [out, in] in 4 bits: packed uint8 [ceil(out * in / 2)], absmax float32 [blocks] or,
    with double quantization, uint8 [blocks], absmax_scales float32 [ceil(blocks / 256)] and absmax_offset float32 [].

    Raises:
        QuantError: others, or a block size that is no power of two from 32 on.
    """
    if out_features < 0:
        raise QuantError(f"out_features: the kernel needs the number of rows of the weight, got {out_features}")
    if (absmax_scales is None) != (absmax_offset is None):
        raise QuantError("absmax_scales, absmax_offset: double quantization has both, got one of them")
    weights = out_features * in_features
    count = blocks(weights, block_size)
    check_operand("packed", packed, torch.uint8, -(-weights // 2), device)
    if absmax_scales is None or absmax_offset is None:
        check_operand("absmax", absmax, torch.float32, count, device)
    else:
        check_operand("absmax", absmax, torch.uint8, count, device)
        check_operand("absmax_scales", absmax_scales, torch.float32, -(-count // 256), device)
        check_operand("absmax_offset", absmax_offset, torch.float32, 1, device)


def blocks(weights: int, block_size: int) -> int:
    """How many blocks of `block_size` so many weights are.

    Raises:
        QuantError: a block size that is no power of two from 32 on.
    """
    if block_size < 32 or block_size & (block_size - 1):
        raise QuantError(f"block_size: the kernel needs a power of two from 32 on, got {block_size}")
    return -(-weights // block_size)
