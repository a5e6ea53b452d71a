"""Absmax per block and a 16-level codebook: NF4, FP4 and INT4, which differ by their levels and nothing else.

The flattened weight is cut into blocks of `block_size`; each block is divided by its absmax and every quotient
becomes the code of the nearest level; a quotient on the midpoint of two levels takes the lower one. All in float32.

Codes, packed bytes and absmax equal bitsandbytes' bit for bit (0.50, CPU), and so do the details that only show at
the edges:

* full blocks are multiplied by the reciprocal of the absmax, a short last block is divided by it;
* an absmax below 1e-38 is replaced by 1e-38 where it divides (and, in a short last block, where it is stored);
* FP4 has two zeros: codes 0 (zero and below) and 8 (above);
* an odd number of codes is completed with the code of zero.

|w - w'| <= absmax * (half the gap between the levels around w + 2^-22) wherever absmax >= 1e-38; below that a block is
wrong by at most its absmax. A CPU that flushes subnormals (`torch.set_flush_denormal`) reads them as zero: blocks with
an absmax below 1e-35 or above 2^126 may get other codes there, still within these bounds, and elsewhere at most one
FP4 zero becomes the other. Refused: NaN, Inf.

With `factors` the absmax that is stored, and divides, is the one of least squared error that
`quant.numerics.scale_search` finds, and quotients beyond 1 become 1.

On the CPU the same formulas run natively (`quant.native`), but for the search, bit for bit and without flushing;
torch's come next, and tell what is not finite.
"""

import functools
from array import array
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from quant import native
from quant.codebooks import LEVELS
from quant.numerics.checks import check_dtype, check_finite
from quant.numerics.packing import pack_nibbles
from quant.numerics.reciprocal import times_reciprocal
from quant.numerics.scale_search import search_scales
from quant.numerics.tables import cached_table

SMALLEST_DIVISOR = 1e-38
LARGEST = torch.finfo(torch.float32).max
CHUNK_ELEMENTS = 1 << 22
"""Elements converted at a time (a multiple of every block size), which bounds the float32 temporaries."""


@functools.cache
def _boundaries(codebook: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The 15 midpoints between ascending levels, rounded to float32, and the codes of the 16 levels, ascending."""
    levels = LEVELS[codebook]
    order = tuple(sorted(range(16), key=levels.__getitem__))
    midpoints = array("f", [(levels[low] + levels[high]) / 2 for low, high in pairwise(order)])
    return tuple(midpoints), order


@cached_table
def _boundary_tensors(codebook: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """`_boundaries` as float32 [15] and uint8 [16]."""
    midpoints, order = _boundaries(codebook)
    return torch.tensor(midpoints, device=device), torch.tensor(order, dtype=torch.uint8, device=device)


@cached_table
def _levels_of_byte(codebook: str, device: torch.device) -> Tensor:
    """int64 [256]: for each byte the float32 levels of its high and low nibble, seen as one 8-byte element."""
    levels = torch.tensor(LEVELS[codebook], dtype=torch.float32, device="cpu")
    byte = torch.arange(256, device="cpu")
    return torch.stack([levels[byte >> 4], levels[byte & 0xF]], dim=1).view(torch.int64).flatten().to(device)


@cached_table
def _ascending_levels(codebook: str, device: torch.device) -> Tensor:
    """float32 [16]."""
    return torch.tensor(sorted(LEVELS[codebook]), dtype=torch.float32, device=device)


def _nearest(scaled: Tensor, codebook: str, table: Tensor) -> Tensor:
    """The entries of `table` (16, ascending by level) for the levels nearest to `scaled` (float32, any shape); ties
    take the lower level.
    """
    midpoints, _ = _boundary_tensors(codebook, scaled.device)
    indices = torch.bucketize(scaled.clamp_(-1, 1), midpoints, out_int32=True)
    return table.index_select(0, indices.view(-1)).view(scaled.shape)


def _nearest_codes(scaled: Tensor, codebook: str) -> Tensor:
    """uint8 codes of the levels nearest to `scaled` (float32, any shape; overwritten)."""
    return _nearest(scaled, codebook, _boundary_tensors(codebook, scaled.device)[1])


def _search(blocks: Tensor, absmax: Tensor, codebook: str, short: bool, factors: Sequence[float]) -> Tensor:
    """`search_scales` for blocks (float32 [blocks, n]), with quotients as they are computed for full or short ones."""
    levels = _ascending_levels(codebook, blocks.device)

    def nearest(weights: Tensor, scales: Tensor) -> Tensor:
        return _nearest(weights / scales if short else weights * (1.0 / scales), codebook, levels)

    return search_scales(blocks, absmax, nearest, factors) if factors else absmax


def quantize_blocks(
    weight: Tensor, codebook: str, block_size: int, factors: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Quantize the flattened `weight` block by block.

    Args:
        weight: n elements of any shape and strides, float64/32/16 or bfloat16; not changed.
        codebook: "nf4", "fp4" or "int4".
        block_size: elements per block, one of `quant.schemes.BLOCK_SIZES`.
        factors: multiples of the largest magnitudes to search the absmax among, ascending; none is not to search.

    Returns:
        packed: uint8 [ceil(n/2)], first element in the high nibble; absmax: float32 [ceil(n/block_size)].

    Raises:
        QuantError: wrong dtype, NaN or Inf.
    """
    check_dtype(weight)
    if not factors and native.reads(weight):
        quantized = native.quantize_blocks(weight, block_size, *_boundaries(codebook))
        if quantized is not None:
            return quantized
    flat = weight.reshape(-1)
    count = flat.numel()
    full = count - count % block_size
    codes = torch.empty(count, dtype=torch.uint8, device=weight.device)
    absmax = torch.empty(-(-count // block_size), dtype=torch.float32, device=weight.device)
    for start in range(0, full, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, full)
        blocks = flat[start:stop].float().view(-1, block_size)
        largest = blocks.abs().amax(dim=1)
        check_finite(largest, weight)
        largest = _search(blocks, largest, codebook, False, factors)
        # Finite also where the CPU flushes the smallest divisor, a subnormal, to zero: 0 times infinity would be NaN.
        reciprocal = (1.0 / largest.clamp(min=SMALLEST_DIVISOR)).clamp_(max=LARGEST)
        codes[start:stop] = _nearest_codes(times_reciprocal(blocks, reciprocal, largest), codebook).view(-1)
        absmax[start // block_size : stop // block_size] = largest
    if full < count:
        tail = flat[full:].float()
        check_finite(tail.abs().amax(), weight)
        largest = tail.abs().amax().clamp(min=SMALLEST_DIVISOR)
        largest = _search(tail[None], largest[None], codebook, True, factors)
        codes[full:] = _nearest_codes((tail / largest).nan_to_num_(0.0), codebook)  # 0/0 where 1e-38 is flushed
        absmax[-1:] = largest
    zero_code = int(_nearest_codes(weight.new_zeros(1, dtype=torch.float32), codebook)) if count % 2 else 0
    return pack_nibbles(codes, fill=zero_code), absmax


def dequantize_blocks(packed: Tensor, absmax: Tensor, codebook: str, block_size: int, count: int) -> Tensor:
    """float32 [count]: level of each code in `packed` (uint8 [ceil(count/2)]) times its block's absmax (float32)."""
    # Moving both floats of a byte at once takes a quarter of the time of unpacking and looking up each.
    values = _levels_of_byte(codebook, packed.device).index_select(0, packed.int()).view(torch.float32)[:count]
    full = count - count % block_size
    values[:full].view(-1, block_size).mul_(absmax[: full // block_size, None])
    if full < count:
        values[full:].mul_(absmax[-1])
    return values
