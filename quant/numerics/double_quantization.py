"""The absmax values of a blockwise format, themselves quantized to 8 bits (QLoRA, section 3, "double quantization").

Their mean is subtracted, the rest is cut into blocks of 256, and each is stored as an index into the signed dynamic map
(`quant.codebooks.DYNAMIC8_LEVELS`) scaled by its block's absmax:

    offset = mean(absmax)      scale[b] = max |absmax - offset| in block b
    absmax' = level[code] * scale[b] + offset

Bit for bit bitsandbytes' CPU result (0.50). Two of its habits are part of the format and not ours to mend: a quotient
is first rounded to a grid of 65536 points on [-1, 1] and then to the nearest level, so near a midpoint the second
nearest may be taken (by at most 1.6e-5 of the scale) and levels finer than the grid are never used; and a block of
zeros gets code 0. A third is not followed: where the level gives more than the largest float, hence infinite weights,
the highest one that does not is taken. The mean is torch's float32 mean: its last bit may depend on the CPU, so codes
made on two machines may differ there by one level, but what is stored reads the same everywhere.
"""

import torch
from torch import Tensor

from quant.codebooks import DYNAMIC8_LEVELS
from quant.numerics.reciprocal import times_reciprocal
from quant.numerics.tables import cached_table
from quant.schemes import DOUBLE_QUANT_BLOCK

GRID = 65536


@cached_table
def dynamic_levels(device: torch.device) -> Tensor:
    """float32 [256], ascending."""
    return torch.tensor(DYNAMIC8_LEVELS, dtype=torch.float32, device=device)


@cached_table
def _code_of_grid_point(device: torch.device) -> Tensor:
    """uint8 [65536]: the nearest level's code for each point of the grid, the lower one on a tie."""
    levels = dynamic_levels(torch.device("cpu"))
    grid = -1.0 + (2.0 * torch.arange(GRID, dtype=torch.float32, device="cpu")) / (GRID - 1)
    return torch.bucketize(grid, (levels[:-1] + levels[1:]) * 0.5).to(device=device, dtype=torch.uint8)


def absmax_offset(absmax: Tensor) -> Tensor:
    """float32 []: what is subtracted from `absmax` (float32 [blocks]), their mean; 0 where there are no blocks."""
    offset = absmax.mean() if absmax.numel() else absmax.new_zeros(())
    if torch.isinf(offset):  # the float32 sum overflowed, the mean does not
        offset = absmax.double().mean().float()
    return offset


def quantize_absmax(absmax: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize `absmax` (float32 [blocks]; not changed).

    Args:
        offset: that of all blocks of the weight, where `absmax` has only some of them: whole groups of 256, but for the
            last. By default that of `absmax`.

    Returns:
        codes: uint8 [blocks]; scales: float32 [ceil(blocks/256)]; offset: float32 [] (0 where there are no blocks).
    """
    count = absmax.numel()
    offset = absmax_offset(absmax) if offset is None else offset
    groups = -(-count // DOUBLE_QUANT_BLOCK)
    centred = absmax.new_zeros(groups * DOUBLE_QUANT_BLOCK)
    torch.sub(absmax, offset, out=centred[:count])
    centred = centred.view(groups, DOUBLE_QUANT_BLOCK)
    scales = centred.abs().amax(dim=1) if count else absmax.new_zeros(0)
    quotient = times_reciprocal(centred, 1.0 / scales, scales).nan_to_num_(0.0).clamp_(-1, 1)
    codes = _code_of_grid_point(absmax.device)[((quotient + 1) * 0.5 * (GRID - 1) + 0.5).long()]
    codes[scales == 0] = 0
    codes = codes.view(-1)[:count].clone()
    while (lower := dequantize_absmax(codes, scales, offset).isinf() & (codes > 0)).any():
        codes -= lower.to(torch.uint8)
    return codes, scales, offset


def dequantize_absmax(codes: Tensor, scales: Tensor, offset: Tensor) -> Tensor:
    """float32 [blocks]: the level of each code times the scale of its 256-block, plus the offset."""
    per_code = scales.repeat_interleave(DOUBLE_QUANT_BLOCK)[: codes.numel()]
    return dynamic_levels(codes.device)[codes.long()] * per_code + offset
