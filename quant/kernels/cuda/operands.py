"""Operands as the kernels on GPUs read them: side by side, on the device of x, and as many as x and the output take."""

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.operands import check_blockwise, check_int8, check_operand


def int8_operands(
    x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rows of x [m, in], codes [out, in], scales [out] and bias [out] of `quant::w8a16_linear`.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    codes, scales = _side_by_side(codes), _side_by_side(scales)
    n, k = check_int8(x.device, codes, scales)
    return _rows(x, k), codes, scales, _bias(bias, n, x.device)


def blockwise_operands(
    x: Tensor,
    packed: Tensor,
    absmax: Tensor,
    absmax_scale: Tensor | None,
    absmax_offset: Tensor | None,
    block_size: int,
    out_features: int,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Rows of x [m, in], packed, absmax, its scales and offset, and bias [out] of `quant::blockwise_linear`.

    Raises:
        QuantError: operands of other dtypes, sizes or devices.
    """
    k = x.shape[-1]
    packed, absmax = _side_by_side(packed), _side_by_side(absmax)
    absmax_scale = None if absmax_scale is None else _side_by_side(absmax_scale)
    check_blockwise(x.device, out_features, k, block_size, packed, absmax, absmax_scale, absmax_offset)
    return _rows(x, k), packed, absmax, absmax_scale, absmax_offset, _bias(bias, out_features, x.device)


def _side_by_side(tensor: Tensor) -> Tensor:
    return tensor.resolve_neg().contiguous()


def _rows(x: Tensor, k: int) -> Tensor:
    if x.shape[-1] != k:
        raise QuantError(f"x: the kernel needs [..., {k}], got {list(x.shape)}")
    return _side_by_side(x).view(-1, k)


def _bias(bias: Tensor | None, n: int, device: torch.device) -> Tensor | None:
    if bias is None:
        return None
    bias = _side_by_side(bias)
    check_operand("bias", bias, bias.dtype, n, device)
    return bias
