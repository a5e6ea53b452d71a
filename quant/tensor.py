"""A quantized weight as a value: its scheme, its logical shape, and the tensors that are stored for it.

This is the one codec that everything else goes through (layers, checkpoints, loaders), so the codes are the same by
every road. What is stored is a flat dict of plain tensors under the names that the layers use in their `state_dict`:

| scheme | name | dtype, shape |
|---|---|---|
| W8A16 | `weight` | int8 [out * in], row by row |
| | `weight_scale` | float32 [out] |
| NF4, FP4, INT4 | `weight` | uint8 [ceil(n/2)], n = out * in, packed |
| | `weight_absmax` | float32 [ceil(n/block_size)], or uint8 with double quantization |
| | `weight_absmax_scale` | float32 [ceil(blocks/256)], double quantization only |
| | `weight_absmax_offset` | float32 [], double quantization only |
| | `weight_format` | uint8 [4]: layout version, codebook, log2 block size, double quantization |

`weight_format` exists because NF4, FP4 and INT4 tensors look alike: without it one loads as the other in silence.
The codes of W8A16 are stored flat for the same reason: a loader that knows nothing of this library casts int8 [out, in]
to a float weight without a word, but stops at a shape that is not the layer's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.numerics.blockwise import dequantize_blocks, quantize_blocks
from quant.numerics.checks import check_dtype
from quant.numerics.double_quantization import dequantize_absmax, quantize_absmax
from quant.numerics.int8 import dequantize_rows, quantize_rows
from quant.schemes import DOUBLE_QUANT_BLOCK, W8A16, Blockwise, Scheme


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A quantized weight. Made by `quantize_tensor`; immutable by convention, its tensors are not copied.

    Attributes:
        scheme: how it was quantized.
        shape: logical shape of the weight.
        dtype: dtype of the weight it was made from, and the default of `dequantize`.
        stored: name -> tensor, as in the module docstring.
    """

    scheme: Scheme
    shape: torch.Size
    dtype: torch.dtype
    stored: Mapping[str, Tensor]

    @property
    def codes(self) -> Tensor:
        """int8 [out, in], or packed uint8 [ceil(n/2)] for 4-bit schemes."""
        weight = self.stored["weight"]
        return weight if isinstance(self.scheme, Blockwise) else weight.view(self.shape)

    @property
    def scales(self) -> Tensor:
        """float32 [out] (W8A16) or float32 [blocks], the absmax of each block as dequantizing uses it."""
        return effective_scales(self.scheme, self.stored)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors; equals `scheme.storage_bytes(*shape)`."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.stored.values())

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weight that the codes stand for: computed in float32, returned in `dtype` (a float dtype, default: the
        source's), where values beyond its range become its largest finite ones.
        """
        return dequantize_stored(self.scheme, self.stored, self.shape, dtype or self.dtype)


def quantize_tensor(weight: Tensor, scheme: Scheme) -> QuantizedTensor:
    """Quantize one weight.

    Args:
        weight: [out, in] for W8A16, any shape for the blockwise schemes; float64/32/16 or bfloat16; not changed. On
            the meta device the result is on meta as well (shapes and bytes without values).
        scheme: `W8A16()`, `NF4(...)`, `FP4(...)` or `INT4(...)`.

    Raises:
        QuantError: unknown scheme, wrong dtype or shape, NaN or Inf.
    """
    check_scheme(scheme)
    check_dtype(weight)
    weight = weight.detach()
    if weight.is_meta:
        stored = empty_stored(scheme, weight.shape, weight.device)
    elif isinstance(scheme, Blockwise):
        packed, absmax = quantize_blocks(weight, scheme.codebook, scheme.block_size, scheme.searched_factors)
        stored = {"weight": packed}
        if scheme.double_quant:
            names = ("weight_absmax", "weight_absmax_scale", "weight_absmax_offset")
            stored.update(zip(names, quantize_absmax(absmax), strict=True))
        else:
            stored["weight_absmax"] = absmax
        stored["weight_format"] = torch.tensor(scheme.format_tag, dtype=torch.uint8, device=weight.device)
    else:
        codes, scales = quantize_rows(weight, scheme.searched_factors)
        stored = {"weight": codes.view(-1), "weight_scale": scales}
    return QuantizedTensor(scheme, weight.shape, weight.dtype, stored)


def check_scheme(scheme: object) -> None:
    """Raises:
    QuantError: `scheme` is not one of ours (a common slip is to pass the class or the name).
    """
    if not isinstance(scheme, W8A16 | Blockwise):
        raise QuantError(f"unknown scheme {scheme!r}: pass quant.W8A16(), quant.NF4(), quant.FP4() or quant.INT4()")


def effective_scales(scheme: Scheme, stored: Mapping[str, Tensor]) -> Tensor:
    """The float32 scales: [out] for W8A16, [blocks] for blockwise schemes, with double quantization undone."""
    if not isinstance(scheme, Blockwise):
        return stored["weight_scale"]
    if scheme.double_quant:
        return dequantize_absmax(stored["weight_absmax"], stored["weight_absmax_scale"], stored["weight_absmax_offset"])
    return stored["weight_absmax"]


def dequantize_stored(
    scheme: Scheme, stored: Mapping[str, Tensor], shape: torch.Size, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Tensor of `shape` and float `dtype` from the stored tensors, saturated at the dtype's finite range."""
    scales = effective_scales(scheme, stored)
    if isinstance(scheme, Blockwise):
        count = math.prod(shape)
        weight = dequantize_blocks(stored["weight"], scales, scheme.codebook, scheme.block_size, count).view(shape)
    else:
        weight = dequantize_rows(stored["weight"].view(shape), scales)
    largest = torch.finfo(dtype).max
    if largest < torch.finfo(torch.float32).max:
        # One weight that became infinite would make every output of its row NaN or infinite.
        weight.clamp_(-largest, largest)
    return weight.to(dtype)


def empty_stored(scheme: Scheme, shape: torch.Size, device: torch.device | str | None) -> dict[str, Tensor]:
    """Tensors of the names, shapes and dtypes for a weight of `shape`; undefined values but for the format tag."""
    check_scheme(scheme)
    if not isinstance(scheme, Blockwise):
        if len(shape) != 2:
            raise QuantError(f"W8A16 needs a weight [out, in], got shape {list(shape)}")
        return {
            "weight": torch.empty(shape.numel(), dtype=torch.int8, device=device),
            "weight_scale": torch.empty(shape[0], dtype=torch.float32, device=device),
        }
    count = math.prod(shape)
    blocks = -(-count // scheme.block_size)
    stored = {"weight": torch.empty(-(-count // 2), dtype=torch.uint8, device=device)}
    if scheme.double_quant:
        stored["weight_absmax"] = torch.empty(blocks, dtype=torch.uint8, device=device)
        groups = -(-blocks // DOUBLE_QUANT_BLOCK)
        stored["weight_absmax_scale"] = torch.empty(groups, dtype=torch.float32, device=device)
        stored["weight_absmax_offset"] = torch.empty((), dtype=torch.float32, device=device)
    else:
        stored["weight_absmax"] = torch.empty(blocks, dtype=torch.float32, device=device)
    stored["weight_format"] = torch.tensor(scheme.format_tag, dtype=torch.uint8, device=device)
    return stored
