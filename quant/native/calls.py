"""Calls of the kernels with tensors: operands are checked (`quant.operands`), then addresses are taken."""

import array
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.native.variants import kernels, variant, variant_index
from quant.operands import blocks, check_blockwise, check_int8, check_operand

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""The dtypes that kernels read and write, as they number them; float64 is left to torch."""

CPU = torch.device("cpu")

LARGEST_LEVEL = 4095
"""Of which 16 products with 32767 fit 32 bits (`quant.kernels.cpu`)."""


def reads(tensor: Tensor) -> bool:
    """Whether kernels are in use and read `tensor` as it is: real memory of the CPU in one of `DTYPES`."""
    return (
        tensor.dtype in DTYPES
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and variant() != "torch"
    )


def linear_int8(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, few: bool) -> Tensor:
    """x W^T + b with W = codes * scales.

    Args:
        x: [..., in], float32, bfloat16 or float16, any strides.
        codes: int8 [out, in], contiguous; scales: float32 [out].
        bias: [out], any float dtype, or None.
        few: stream W once for a few rows of x, instead of widening it in panels for many; the bits are the same.

    Returns:
        [..., out] in x's dtype.

    Raises:
        QuantError: operands of other dtypes, sizes, devices or strides.
    """
    n, k = check_int8(CPU, codes, scales)
    return _product(kernels.linear_int8, x, n, k, bias, few, (codes.data_ptr(), scales.data_ptr()))


def linear_blockwise(
    x: Tensor,
    packed: Tensor,
    absmax: Tensor,
    absmax_scales: Tensor | None,
    absmax_offset: Tensor | None,
    block_size: int,
    out_features: int,
    levels: Sequence[int],
    divisor: int,
    level8: Sequence[float],
    bias: Tensor | None,
    few: bool,
) -> Tensor:
    """x W^T + b with W = levels[code] / divisor * absmax of its block.

    Args:
        x, bias, few: as for `linear_int8`.
        packed: uint8 [ceil(out * in / 2)], the even element in the high nibble.
        absmax: float32 [ceil(out * in / block_size)]; uint8 codes into `level8` where the next two are given.
        absmax_scales: float32 [ceil(blocks / 256)]; absmax_offset: float32 []: absmax = level8[code] * scale + offset.
        block_size: a power of two from 32 on.
        levels: 16 integers up to `LARGEST_LEVEL` in magnitude; divisor: their multiplier; level8: 256 floats.

    Raises:
        QuantError: as for `linear_int8`.
    """
    k = x.shape[-1] if x.dim() else 0
    check_blockwise(CPU, out_features, k, block_size, packed, absmax, absmax_scales, absmax_offset)
    double: tuple[int | None, ...] = (None, None, None)
    if absmax_scales is not None and absmax_offset is not None:
        level8_address = _address_of("level8", "f", tuple(level8), 256)
        double = (absmax_scales.data_ptr(), level8_address, absmax_offset.data_ptr())
    levels_address = _address_of("levels", "h", tuple(levels), 16)
    operands = (packed.data_ptr(), absmax.data_ptr(), *double, levels_address, divisor, block_size)
    return _product(kernels.linear_blockwise, x, out_features, k, bias, few, operands)


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """As `quant.numerics.int8.quantize_rows`: codes int8 [out, in] and scales float32 [out] of `weight` [out, in], or
    None where a value is not finite.

    Raises:
        QuantError: a weight of another dtype or device, or that is no matrix.
    """
    weight = _readable_weight(weight)
    if weight.dim() != 2:
        raise QuantError(f"weight: the kernel needs [out, in], got {list(weight.shape)}")
    n, k = weight.shape
    codes, scales = weight.new_empty((n, k), dtype=torch.int8), weight.new_zeros(n, dtype=torch.float32)
    bad = kernels.quantize_int8(
        *(variant_index(variant()), torch.get_num_threads(), n, k, weight.data_ptr(), DTYPES[weight.dtype]),
        *(codes.data_ptr(), scales.data_ptr()),
    )
    return None if bad else (codes, scales)


def quantize_blocks(
    weight: Tensor, block_size: int, midpoints: Sequence[float], order: Sequence[int]
) -> tuple[Tensor, Tensor] | None:
    """As `quant.numerics.blockwise.quantize_blocks`: packed uint8 [ceil(n/2)] and absmax float32 [blocks] of the n
    elements of `weight`, or None where a value is not finite.

    Args:
        block_size: a power of two from 32 on.
        midpoints: the 15 float32 boundaries between ascending levels; order: the code of each level, ascending.

    Raises:
        QuantError: a weight of another dtype or device, another block size or number of constants.
    """
    weight = _readable_weight(weight)
    count = weight.numel()
    packed = weight.new_empty(-(-count // 2), dtype=torch.uint8)
    absmax = weight.new_empty(blocks(count, block_size), dtype=torch.float32)
    bad = kernels.quantize_blocks(
        *(variant_index(variant()), torch.get_num_threads(), count, weight.data_ptr(), DTYPES[weight.dtype]),
        *(block_size, _address_of("midpoints", "f", tuple(midpoints), 15)),
        *(_address_of("order", "B", tuple(order), 16), packed.data_ptr(), absmax.data_ptr()),
    )
    return None if bad else (packed, absmax)


def _product(
    kernel: Callable[..., None],
    x: Tensor,
    n: int,
    k: int,
    bias: Tensor | None,
    few: bool,
    operands: tuple[int | float | None, ...],
) -> Tensor:
    *leading, width = x.shape or (-1,)
    if width != k or x.dtype not in DTYPES or not x.is_cpu:
        raise QuantError(f"x: the kernel needs [..., {k}] on the CPU, got {list(x.shape)}, {x.dtype}, {x.device}")
    x = x.resolve_neg().contiguous()
    y = x.new_empty((*leading, n))  # on x's device, not torch's default one
    bias_address, bias_dtype = None, 0
    if bias is not None:
        bias = bias.resolve_neg()
        bias = bias.contiguous() if bias.dtype in DTYPES else bias.float()
        check_operand("bias", bias, bias.dtype, n, CPU)
        bias_address, bias_dtype = bias.data_ptr(), DTYPES[bias.dtype]
    kernel(
        *(variant_index(variant()), torch.get_num_threads(), few, y.numel() // n if n else 0, n, k),
        *(x.data_ptr(), DTYPES[x.dtype], bias_address, bias_dtype, y.data_ptr()),
        *operands,
    )
    return y


def _readable_weight(weight: Tensor) -> Tensor:
    """A weight to quantize as kernels read it: its values side by side."""
    if weight.dtype not in DTYPES or not weight.is_cpu:
        accepted = ", ".join(map(str, DTYPES))
        raise QuantError(f"weight: the kernel needs one of {accepted} on the CPU, got {weight.dtype}, {weight.device}")
    return weight.detach().resolve_neg().contiguous()


@functools.cache
def _constants(name: str, typecode: str, values: tuple[float, ...], size: int) -> "array.array[float]":
    """Constants as the kernels read them, kept alive by the cache. No tensors: those could be fake ones."""
    if len(values) != size:
        raise QuantError(f"{name}: the kernel needs {size} constants, got {len(values)}")
    largest = max(map(abs, values))
    if name == "levels" and largest > LARGEST_LEVEL:
        raise QuantError(f"{name}: the kernel needs magnitudes up to {LARGEST_LEVEL}, got {largest}")
    return array.array(typecode, values)


def _address_of(name: str, typecode: str, values: tuple[float, ...], size: int) -> int:
    return _constants(name, typecode, values, size).buffer_info()[0]
