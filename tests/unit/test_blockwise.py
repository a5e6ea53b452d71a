"""Blocks of 4-bit codes: exact codes, bytes and absmax on hand-made blocks, against the oracle, and at the edges."""

import itertools
import math
import struct

import pytest
import torch
from torch import Tensor

from quant import native
from quant.errors import QuantError
from quant.numerics import blockwise
from quant.numerics.blockwise import dequantize_blocks, quantize_blocks
from quant.schemes import BLOCK_SIZES
from tests import oracle
from tests.strategies import CODEBOOKS, DTYPES, FLOAT32_MAX, LAYOUTS, bits, normal

ZERO_CODE = {"nf4": 7, "fp4": 0, "int4": 8}


def assert_equals_oracle(weight: Tensor, codebook: str, block_size: int) -> None:
    values = weight.float().reshape(-1).tolist()
    levels = oracle.LEVELS[codebook]
    codes, expected_absmax = oracle.quantize_blocks(values, levels, block_size)
    packed, absmax = quantize_blocks(weight, codebook, block_size)
    assert packed.tolist() == oracle.pack(codes, ZERO_CODE[codebook])
    assert absmax.tolist() == expected_absmax
    assert (packed.dtype, absmax.dtype) == (torch.uint8, torch.float32)
    back = dequantize_blocks(packed, absmax, codebook, block_size, len(values))
    assert back.tolist() == oracle.dequantize_blocks(codes, expected_absmax, levels, block_size)


def neighbours(value: float) -> tuple[float, float, float]:
    """The float32 below `value`, `value`, and the float32 above it (for a positive or negative normal number)."""
    (pattern,) = struct.unpack("<i", struct.pack("<f", value))
    nearby = [struct.unpack("<f", struct.pack("<i", pattern + step))[0] for step in (-1, 0, 1)]
    low, middle, high = sorted(nearby)
    return low, middle, high


@pytest.mark.parametrize(
    ("codebook", "expected"),
    [("nf4", "0123456789abcdef"), ("fp4", "0123456709abcdef"), ("int4", "1123456789abcdef")],
    ids=CODEBOOKS,
)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_each_level_gets_its_code_and_comes_back(codebook: str, expected: str, block_size: int) -> None:
    """FP4's second zero becomes the first, and INT4's level below -1, which no weight gets, becomes -1."""
    levels = [max(-1.0, level) for level in oracle.LEVELS[codebook]]
    weight = torch.tensor(levels * (block_size // 16)) * 0.25
    packed, absmax = quantize_blocks(weight, codebook, block_size)
    assert bytes(packed.tolist()).hex() == expected * (block_size // 16)
    assert absmax.tolist() == [0.25]
    assert torch.equal(dequantize_blocks(packed, absmax, codebook, block_size, block_size), weight)


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_midpoints_take_the_lower_level_and_their_neighbours_the_nearest(codebook: str) -> None:
    """The absmax is 1, so the weights are the quotients, in full blocks and in the short last one alike."""
    levels = sorted(set(oracle.LEVELS[codebook]))
    midpoints = [oracle.f32((low + high) / 2) for low, high in itertools.pairwise(levels) if low >= -1]
    values = [1.0, *(value for midpoint in midpoints for value in neighbours(midpoint))]
    for block_size in (32, 64):
        block = values + [0.0] * (-len(values) % block_size)
        assert_equals_oracle(torch.tensor(block), codebook, block_size)
        assert_equals_oracle(torch.tensor(values), codebook, block_size)
    packed, absmax = quantize_blocks(torch.tensor(values), codebook, 64)
    back = dequantize_blocks(packed, absmax, codebook, 64, len(values)).tolist()
    expected = [level for low, high in itertools.pairwise(levels) if low >= -1 for level in (low, low, high)]
    assert back == [1.0, *expected]


@pytest.mark.parametrize("count", [64, 63], ids=["full block", "short block"])
@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_full_blocks_are_multiplied_by_a_reciprocal_and_short_ones_divided(codebook: str, count: int) -> None:
    """Weights at midpoints times the absmax and beside them: the two ways round some of them to different sides."""
    levels = sorted({level for level in oracle.LEVELS[codebook] if level >= -1})
    midpoints = [(low + high) / 2 for low, high in itertools.pairwise(levels)]
    for absmax in (3.0, 5.0, 7.0, 0.1, 0.3, 11e-20, 1e30 / 7):
        near = [value for midpoint in midpoints for value in neighbours(midpoint * absmax)]
        assert_equals_oracle(torch.tensor([absmax, *near, *[0.0] * 64][:count]), codebook, 64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_codes_bytes_and_absmax_equal_the_oracle(block_size: int, codebook: str, dtype: torch.dtype) -> None:
    """Several bytes per block, several blocks and a tail: an accumulator that is not reset would show at any block
    size.
    """
    count = max(2 * block_size - 1, 133) if block_size <= 512 else block_size + 5
    assert_equals_oracle(normal((count,), seed=block_size, std=0.02).to(dtype), codebook, block_size)


@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 127, 128, 7 * 64 + 5])
def test_tails_and_odd_counts_equal_the_oracle(count: int, codebook: str) -> None:
    poison = [torch.full((count,), math.nan) for _ in range(4)]
    del poison  # freed memory full of NaN, so that reading beyond the end shows
    assert_equals_oracle(normal((count,), seed=count), codebook, 64)
    _, absmax = quantize_blocks(normal((count,), seed=count), codebook, 64)
    assert absmax.shape == (math.ceil(count / 64),)


@pytest.mark.parametrize("shape", [(130,), (1, 130), (130, 1), (13, 10), (2, 5, 13)])
def test_blocks_run_over_row_ends_of_any_shape(shape: tuple[int, ...]) -> None:
    flat = normal((130,), seed=8)
    expected = quantize_blocks(flat, "nf4", 64)
    actual = quantize_blocks(flat.reshape(shape), "nf4", 64)
    assert [bits(part) for part in actual] == [bits(part) for part in expected]


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_blocks_get_the_zero_code_and_leave_their_neighbours_alone(
    zero: float, codebook: str, dtype: torch.dtype
) -> None:
    weight = torch.cat([normal((32,), seed=9), torch.full((32,), zero), normal((32,), seed=10)]).to(dtype)
    assert_equals_oracle(weight, codebook, 32)
    packed, absmax = quantize_blocks(weight, codebook, 32)
    assert packed[16:32].tolist() == [17 * ZERO_CODE[codebook]] * 16
    assert absmax[1].item() == 0.0
    assert bits(dequantize_blocks(packed, absmax, codebook, 32, 96)[32:64]) == bits(torch.zeros(32))


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_a_zero_tail_stores_the_smallest_divisor_and_comes_back_as_zero(codebook: str) -> None:
    weight = torch.cat([torch.ones(32), torch.zeros(3)])
    assert_equals_oracle(weight, codebook, 32)
    packed, absmax = quantize_blocks(weight, codebook, 32)
    assert absmax.tolist() == [1.0, oracle.SMALLEST_DIVISOR]
    assert dequantize_blocks(packed, absmax, codebook, 32, 35)[32:].tolist() == [0.0] * 3


@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("count", [32, 35])
def test_tiny_and_huge_blocks_stay_finite_and_within_their_absmax(count: int, codebook: str) -> None:
    for exponent in range(-45, 39):
        weight = normal((count,), seed=11).clamp(-3, 3) * 10.0**exponent
        assert_equals_oracle(weight, codebook, 32)
        packed, absmax = quantize_blocks(weight, codebook, 32)
        back = dequantize_blocks(packed, absmax, codebook, 32, count)
        assert back.isfinite().all()
        assert (back - weight).abs().max() <= max(weight.abs().max().item(), oracle.SMALLEST_DIVISOR)


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_the_absmax_of_a_block_comes_back_exactly(codebook: str) -> None:
    for value in (1.0, -1.0, 0.3, -0.3, 7e-5, -123.456, FLOAT32_MAX, -FLOAT32_MAX):
        weight = torch.zeros(64)
        weight[17] = value
        packed, absmax = quantize_blocks(weight, codebook, 64)
        assert bits(dequantize_blocks(packed, absmax, codebook, 64, 64)) == bits(weight)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_strides_do_not_matter(codebook: str, layout: str) -> None:
    weight = LAYOUTS[layout](normal((6, 23), seed=12))
    actual = quantize_blocks(weight, codebook, 32)
    expected = quantize_blocks(weight.clone(memory_format=torch.contiguous_format), codebook, 32)
    assert [bits(part) for part in actual] == [bits(part) for part in expected]


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the formulas in torch: the kernels have none."""
    weight = normal((1000,), seed=13)
    whole = quantize_blocks(weight, "fp4", 32)
    with native.override("torch"):
        for elements in (32, 64, 320):
            monkeypatch.setattr(blockwise, "CHUNK_ELEMENTS", elements)
            assert [bits(part) for part in quantize_blocks(weight, "fp4", 32)] == [bits(part) for part in whole]


def test_a_chunk_holds_whole_blocks_of_every_size() -> None:
    assert all(blockwise.CHUNK_ELEMENTS % block_size == 0 for block_size in BLOCK_SIZES)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", [0, 63, 64, 69], ids=["first", "end of block", "tail", "last"])
def test_nan_and_infinity_are_refused(index: int, bad: float) -> None:
    weight = torch.ones(70)
    weight[index] = bad
    with pytest.raises(QuantError, match=r"shape \[70\] has 1 NaN or infinite values"):
        quantize_blocks(weight, "nf4", 64)


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_an_empty_weight_has_no_codes_and_no_absmax(codebook: str) -> None:
    packed, absmax = quantize_blocks(torch.empty(0, 64), codebook, 64)
    assert (packed.numel(), absmax.numel()) == (0, 0)
    assert dequantize_blocks(packed, absmax, codebook, 64, 0).numel() == 0
