"""What a change of the weight does to the codes: powers of two, the sign, the order of rows, joining of matrices."""

import itertools
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant import FP4, INT4, NF4, W8A16, quantize_tensor
from quant.numerics.blockwise import quantize_blocks
from quant.numerics.int8 import quantize_rows
from quant.schemes import Blockwise, Scheme
from tests import oracle
from tests.strategies import (
    ALL_SCHEMES,
    BLOCKWISE_SCHEMES,
    CODEBOOKS,
    SCHEMES,
    generator,
    per_kind,
    tame_weights,
    weights,
)

ONE_BLOCK_ROWS = tuple(scheme for scheme in BLOCKWISE_SCHEMES if scheme.block_size <= 64 and not scheme.double_quant)


@per_kind(ALL_SCHEMES)
@given(weight=tame_weights(), exponent=st.integers(-20, 20), data=st.data())
def test_a_power_of_two_scales_the_scales_and_leaves_the_codes(
    alike: st.SearchStrategy[Scheme], weight: Tensor, exponent: int, data: st.DataObject
) -> None:
    """Exact as long as nothing under- or overflows; the floor under the absmax of a zero tail is a constant."""
    scheme = data.draw(alike)
    factor = 2.0**exponent
    plain, scaled = quantize_tensor(weight, scheme), quantize_tensor(weight * factor, scheme)
    assert torch.equal(plain.codes, scaled.codes)
    assert torch.equal(plain.dequantize() * factor, scaled.dequantize())
    floor = plain.scales == oracle.SMALLEST_DIVISOR
    assert torch.equal((plain.scales * factor)[~floor], scaled.scales[~floor]) or not weight.any()


@given(weights())
def test_w8a16_mirrors_the_codes_of_the_negated_weight(weight: Tensor) -> None:
    codes, scales = quantize_rows(weight)
    mirrored, mirrored_scales = quantize_rows(-weight)
    assert torch.equal(mirrored, -codes)
    assert torch.equal(mirrored_scales, scales)


@given(weights(), st.sampled_from((32, 64, 4096)))
def test_int4_mirrors_the_codes_but_where_a_quotient_is_a_tie(weight: Tensor, block_size: int) -> None:
    """Code c stands for (c - 8)/7, so mirrored codes sum to 16; on a midpoint both signs take the lower level and sum
    to 15.
    """
    plain, mirrored = quantize_tensor(weight, INT4(block_size)), quantize_tensor(-weight, INT4(block_size))
    assert torch.equal(plain.scales, mirrored.scales)
    codes, mirrored_codes = (oracle.unpack(part.codes.tolist(), weight.numel()) for part in (plain, mirrored))
    midpoints = {oracle.f32((low + high) / 2) for low, high in zip(oracle.INT4[1:-1], oracle.INT4[2:], strict=True)}
    blocks = torch.split(weight.reshape(-1), block_size)
    quotients = [value for block in blocks for value in quotients_of(block.tolist(), block_size)]
    for code, mirrored_code, quotient in zip(codes, mirrored_codes, quotients, strict=True):
        assert code + mirrored_code == (15 if quotient in midpoints else 16)


@given(weights(), st.sampled_from((32, 64, 4096)))
def test_fp4_mirrors_the_sign_bit_but_where_a_quotient_is_a_tie_or_zero(weight: Tensor, block_size: int) -> None:
    """Code c + 8 stands for the negative of code c. On a midpoint both signs take the lower level; zero has code 0."""
    plain, mirrored = quantize_tensor(weight, FP4(block_size)), quantize_tensor(-weight, FP4(block_size))
    assert torch.equal(plain.scales, mirrored.scales)
    codes, mirrored_codes = (oracle.unpack(part.codes.tolist(), weight.numel()) for part in (plain, mirrored))
    ascending = sorted(set(oracle.FP4))
    midpoints = {oracle.f32((low + high) / 2) for low, high in itertools.pairwise(ascending)}
    blocks = torch.split(weight.reshape(-1), block_size)
    quotients = [value for block in blocks for value in quotients_of(block.tolist(), block_size)]
    for code, mirrored_code, quotient in zip(codes, mirrored_codes, quotients, strict=True):
        if quotient == 0:
            assert code == mirrored_code == 0
        elif quotient not in midpoints:
            assert mirrored_code == code ^ 8, quotient


@given(tame_weights(), st.sampled_from((32, 64, 4096)))
def test_nf4_mirrors_the_absmax_and_the_largest_weight_of_a_block_only(weight: Tensor, block_size: int) -> None:
    """Its negative levels are others than its positive ones; -1, 0 and 1 are all that they share."""
    assert sorted({abs(level) for level in oracle.NF4 if -level in oracle.NF4}) == [0.0, 1.0]
    plain, mirrored = quantize_tensor(weight, NF4(block_size)), quantize_tensor(-weight, NF4(block_size))
    assert torch.equal(plain.scales, mirrored.scales)
    back, mirrored_back = plain.dequantize().reshape(-1), mirrored.dequantize().reshape(-1)
    largest = weight.reshape(-1).abs() >= plain.scales.repeat_interleave(block_size)[: weight.numel()]
    assert torch.equal(mirrored_back[largest], -back[largest])


def test_every_registered_kind_has_a_test_of_its_signs() -> None:
    """What a sign does is its codebook's own matter, so that no test of all kinds can hold it."""
    tested = {match[1] for match in map(re.compile(r"test_(\w+?)_mirrors_").match, globals()) if match}
    assert tested == {scheme.name for scheme in SCHEMES}


def quotients_of(block: list[float], block_size: int) -> list[float]:
    """What is compared with the levels: times the reciprocal in a full block, divided in a short one."""
    divisor = max(oracle.SMALLEST_DIVISOR, *map(abs, block), 0.0)
    reciprocal = oracle.f32(1 / divisor)
    return [oracle.f32(value * reciprocal if len(block) == block_size else value / divisor) for value in block]


@given(weights(min_rows=2), st.integers(0, 2**32 - 1))
def test_w8a16_quantizes_each_row_by_itself(weight: Tensor, seed: int) -> None:
    order = torch.randperm(len(weight), generator=generator(seed))
    codes, scales = quantize_rows(weight)
    permuted_codes, permuted_scales = quantize_rows(weight[order])
    assert torch.equal(permuted_codes, codes[order])
    assert torch.equal(permuted_scales, scales[order])
    one_codes, one_scale = quantize_rows(weight[:1])
    assert torch.equal(one_codes, codes[:1])
    assert torch.equal(one_scale, scales[:1])


@per_kind(ONE_BLOCK_ROWS)
@given(weight=weights(min_rows=2), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_rows_of_whole_blocks_are_quantized_each_by_itself(
    alike: st.SearchStrategy[Blockwise], weight: Tensor, seed: int, data: st.DataObject
) -> None:
    """Double quantization joins 256 blocks, whose mean and scale are another matter; the codes know nothing of it."""
    scheme = data.draw(alike)
    weight = torch.nn.functional.pad(weight, (0, -weight.shape[1] % scheme.block_size))
    order = torch.randperm(len(weight), generator=generator(seed))
    plain, permuted = quantize_tensor(weight, scheme), quantize_tensor(weight[order], scheme)
    assert torch.equal(permuted.codes.view(len(weight), -1), plain.codes.view(len(weight), -1)[order])
    assert torch.equal(permuted.scales.view(len(weight), -1), plain.scales.view(len(weight), -1)[order])
    double = quantize_tensor(weight[order], replace(scheme, double_quant=True))
    assert torch.equal(double.codes, permuted.codes)


@per_kind(ONE_BLOCK_ROWS)
@given(data=st.data())
def test_joined_matrices_of_whole_blocks_get_joined_codes(
    alike: st.SearchStrategy[Scheme], data: st.DataObject
) -> None:
    """The first part is 64 wide, a whole number of blocks; the second may have any tail. W8A16 joins any rows."""
    scheme = data.draw(alike)
    first = data.draw(
        weights().map(lambda weight: torch.nn.functional.pad(weight, (0, -weight.shape[1] % 64)).reshape(-1))
    )
    second = data.draw(weights()).reshape(-1)
    parts = [quantize_tensor(part, scheme) for part in (first, second)]
    whole = quantize_tensor(torch.cat([first, second]), scheme)
    assert torch.equal(whole.codes, torch.cat([part.codes for part in parts]))
    assert torch.equal(whole.scales, torch.cat([part.scales for part in parts]))


@given(weights(), weights())
def test_w8a16_joins_rows(first: Tensor, second: Tensor) -> None:
    width = min(first.shape[1], second.shape[1])
    parts = [quantize_tensor(part[:, :width], W8A16()) for part in (first, second)]
    whole = quantize_tensor(torch.cat([first[:, :width], second[:, :width]]), W8A16())
    assert torch.equal(whole.codes, torch.cat([part.codes for part in parts]))
    assert torch.equal(whole.scales, torch.cat([part.scales for part in parts]))


@pytest.mark.parametrize("codebook", CODEBOOKS)
@given(weight=weights(min_rows=2))
def test_a_block_is_quantized_by_itself(codebook: str, weight: Tensor) -> None:
    """Changing the first block of 32 changes neither the codes nor the absmax of the others."""
    flat = weight.reshape(-1)
    changed = flat.clone()
    changed[:32] = 1.0
    packed, absmax = quantize_blocks(flat, codebook, 32)
    changed_packed, changed_absmax = quantize_blocks(changed, codebook, 32)
    assert torch.equal(packed[16:], changed_packed[16:])
    assert torch.equal(absmax[1:], changed_absmax[1:])
