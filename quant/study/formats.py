"""The formats of the study, by name, and int4 as others mean it.

`nf4`, `fp4` and `int4` are this package's schemes: blocks of the same weights, scaled by their absmax, and 16 levels
each. `-dq` adds double quantization, `-mse` scales of least squared error. `affine` is no format of this package: 16
evenly spaced levels from the least weight of a block to the largest, which is what int4 with a zero point comes to
before its scale and zero point are rounded. It stores two numbers for a block where the others store one, uses all 16
levels where int4 uses 15, and is here because others have found NF4 wanting beside it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.schemes import FP4, INT4, NF4, Blockwise, Scale
from quant.tensor import quantize_tensor

KINDS: dict[str, type[Blockwise]] = {"nf4": NF4, "fp4": FP4, "int4": INT4}
AFFINE = "affine"
PLAIN = tuple(KINDS)
DOUBLE_QUANT = tuple(f"{name}-dq" for name in KINDS)
SEARCHED = tuple(f"{name}-mse" for name in KINDS)
FORMATS = (*PLAIN, AFFINE, *DOUBLE_QUANT, *SEARCHED)
MODEL_FORMATS = ("int4", "nf4", "fp4", AFFINE, "int4-dq", "nf4-dq", "int4-mse", "nf4-mse", "fp4-mse")
"""Those that the whole model is measured in, int4 before what is measured against it."""


@dataclass(frozen=True)
class Restored:
    """values: float32, the weights as a format gives them back, in the shape they had; bits: stored per weight."""

    values: Tensor
    bits: float


def scheme_of(name: str, block_size: int) -> Blockwise:
    """The scheme of a format other than `AFFINE`."""
    kind, _, option = name.partition("-")
    scale: Scale = "mse" if option == "mse" else "absmax"
    return KINDS[kind](block_size=block_size, double_quant=option == "dq", scale=scale)


def int4_like(name: str) -> str:
    """int4 with the options of the format `name`."""
    kind, hyphen, option = name.partition("-")
    return "int4" if kind == AFFINE else f"int4{hyphen}{option}"


def absmax_like(name: str) -> str:
    """The format `name` with absmax scales."""
    return name.removesuffix("-mse")


def restore(weight: Tensor, name: str, block_size: int) -> Restored:
    """Through the format and back. weight: float32 of any shape; for `AFFINE`, a whole number of blocks."""
    if name == AFFINE:
        return Restored(_affine(weight, block_size), 4 + 64 / block_size)
    quantized = quantize_tensor(weight, scheme_of(name, block_size))
    return Restored(quantized.dequantize(), 8 * quantized.nbytes / weight.numel())


def _affine(weight: Tensor, block_size: int) -> Tensor:
    blocks = weight.reshape(-1, block_size)
    low, high = blocks.aminmax(dim=1, keepdim=True)
    step = ((high - low) / 15).clamp_(min=torch.finfo(torch.float32).tiny)
    restored = torch.round((blocks - low) / step).mul_(step).add_(low)
    return restored.view(weight.shape)
