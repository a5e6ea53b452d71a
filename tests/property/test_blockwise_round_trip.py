"""NF4, FP4 and INT4 for every weight: the error equals the distance to the levels, every code comes back, twice is
once.

a is a block's absmax, u = 2^-24. w/a is computed as w * (1/a) with two roundings, so it is off by 2 u; the midpoint
that it is compared with is off by u/2, which may make the second nearest level, u further away, win; level * a is
rounded once more. Hence -u a <= |w - w'| - distance <= 6 u a, where distance is that of w to the nearest level times a.
That is for a between 1e-38 and 2^126, where 1/a is a normal float32.
"""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from quant import quantize_tensor
from quant.numerics.blockwise import quantize_blocks
from quant.schemes import Blockwise
from tests import oracle
from tests.strategies import (
    BLOCKWISE_KINDS,
    BLOCKWISE_SCHEMES,
    DTYPES,
    SMALL_BLOCKS,
    bits,
    normal,
    per_kind,
    tame_weights,
    weights,
)

U = oracle.UNIT_ROUNDOFF
SUBNORMAL = 2.0**-150
"""Largest rounding error of a product below the normal range, which level * a may be in for a near 1e-38."""
SLACK = 1 + 2.0**-20
"""For second-order terms and float64."""
PLAIN = tuple(scheme for scheme in BLOCKWISE_SCHEMES if not scheme.double_quant)
SMALL_PLAIN = tuple(scheme for scheme in SMALL_BLOCKS if not scheme.double_quant)
Alike = st.SearchStrategy[Blockwise]


def levels_in_use(scheme: Blockwise) -> Tensor:
    """The levels that a quotient within [-1, 1] can be nearest to, float64."""
    return torch.tensor(sorted({level for level in oracle.LEVELS[scheme.name] if abs(level) <= 1}), dtype=torch.float64)


def codes_of(scheme: Blockwise, weight: Tensor) -> list[int]:
    return oracle.unpack(quantize_tensor(weight, scheme).codes.tolist(), weight.numel())


@per_kind(PLAIN)
@given(weight=weights(DTYPES), data=st.data())
def test_codes_and_absmax_are_the_oracle_s(alike: Alike, weight: Tensor, data: st.DataObject) -> None:
    scheme = data.draw(alike)
    levels = oracle.LEVELS[scheme.name]
    codes, expected = oracle.quantize_blocks(weight.float().reshape(-1).tolist(), levels, scheme.block_size)
    packed, absmax = quantize_blocks(weight, scheme.codebook, scheme.block_size)
    assert packed.tolist() == oracle.pack(codes, oracle.nearest_code(0.0, levels))
    assert absmax.tolist() == expected


@per_kind(PLAIN)
@given(weight=weights(DTYPES), data=st.data())
def test_the_error_is_the_distance_to_the_levels(alike: Alike, weight: Tensor, data: st.DataObject) -> None:
    scheme = data.draw(alike)
    quantized = quantize_tensor(weight, scheme)
    exact = weight.float().double().reshape(-1)
    error = (quantized.dequantize(torch.float32).double().reshape(-1) - exact).abs()
    absmax = quantized.scales.double().repeat_interleave(scheme.block_size)[: exact.numel()]
    normal, tiny = (absmax >= 1e-38 * SLACK) & (absmax <= 2.0**126), absmax < 1e-38 * SLACK
    quotient = exact / torch.where(normal, absmax, 1.0)
    distance = (quotient[:, None] - levels_in_use(scheme)).abs().amin(dim=1) * absmax
    above, below = error - distance, U * absmax * SLACK + SUBNORMAL
    assert ((above >= -below) & (above <= 5 * U * absmax * SLACK + below))[normal].all()
    assert (error <= absmax * (scheme.worst_case_error + 4 * U))[normal].all()
    # Below, the nearest level may be 0, which is wrong by the weight itself; a subnormal product rounds to 2^-150.
    assert (error <= absmax + 2.0**-149)[tiny].all()


@per_kind(PLAIN)
@given(weight=weights(DTYPES), data=st.data())
def test_the_largest_weight_of_each_block_comes_back_exactly(alike: Alike, weight: Tensor, data: st.DataObject) -> None:
    scheme = data.draw(alike)
    back = quantize_tensor(weight, scheme).dequantize(torch.float32).reshape(-1)
    blocks, restored_blocks = (torch.split(flat, scheme.block_size) for flat in (weight.float().reshape(-1), back))
    for block, restored in zip(blocks, restored_blocks, strict=True):
        largest = block.abs() == block.abs().max()
        assert torch.equal(restored[largest], block[largest]) or block.abs().max() <= 1e-38


@per_kind(PLAIN)
@given(absmax=st.floats(1e-30, 1e30), data=st.data())
def test_a_ramp_is_as_wrong_as_16_levels_must_make_it(alike: Alike, absmax: float, data: st.DataObject) -> None:
    """Of n evenly spaced points some level serves at least n/16, so it is off by half of their spread."""
    scheme = data.draw(alike)
    count = scheme.block_size
    weight = (torch.linspace(-1, 1, count, dtype=torch.float64) * absmax).float()
    back = quantize_tensor(weight, scheme).dequantize()
    worst = (back.double() - weight.double()).abs().max().item() / absmax
    assert (math.ceil(count / 16) - 1) / (count - 1) - 2.0**-20 <= worst <= scheme.worst_case_error + 2.0**-20
    assert len(set(back.tolist())) <= 16


@per_kind(SMALL_PLAIN)
@given(
    codes=st.lists(st.integers(0, 15), max_size=150),
    absmax=st.floats(2.0**-100, 2.0**100, width=32),
    negative=st.booleans(),
    data=st.data(),
)
def test_every_code_comes_back_whatever_the_absmax(
    alike: Alike, codes: list[int], absmax: float, negative: bool, data: st.DataObject
) -> None:
    """Each block begins with 1 or -1. FP4's second zero comes back as the first, and INT4 never uses code 0."""
    scheme = data.draw(alike)
    levels = oracle.LEVELS[scheme.name]
    first = levels.index(-1.0 if negative else 1.0)
    sent = [first if index % scheme.block_size == 0 else code for index, code in enumerate([first, *codes])]
    assume(scheme.name != "int4" or 0 not in sent)
    weight = torch.tensor([oracle.f32(levels[code] * absmax) for code in sent])
    assert codes_of(scheme, weight) == [0 if (scheme.name, code) == ("fp4", 8) else code for code in sent]


@per_kind(BLOCKWISE_SCHEMES)
@given(weight=tame_weights(), data=st.data())
def test_quantizing_what_was_dequantized_gives_the_same_codes(
    alike: Alike, weight: Tensor, data: st.DataObject
) -> None:
    """For blocks whose absmax, after double quantization, is positive and normal, or 0: the block's largest level is 1
    or -1, so its absmax is unchanged, and every other quotient is within 3 u of its level, where the nearest midpoint
    is 0.002 away.
    """
    scheme = data.draw(alike)
    quantized = quantize_tensor(weight, scheme)
    assume(bool(((quantized.scales >= 1e-30) | (quantized.scales == 0)).all()))
    before = codes_of(scheme, weight)
    after = codes_of(scheme, quantized.dequantize())
    zeros = {8: 0} if scheme.name == "fp4" else {}
    assert after == [zeros.get(code, code) for code in before]


@per_kind(PLAIN)
@given(weight=tame_weights(), data=st.data())
def test_quantizing_what_was_dequantized_gives_the_same_absmax(
    alike: Alike, weight: Tensor, data: st.DataObject
) -> None:
    """To the bit, without double quantization."""
    scheme = data.draw(alike)
    quantized = quantize_tensor(weight, scheme)
    assert torch.equal(quantize_tensor(quantized.dequantize(), scheme).scales, quantized.scales)


@pytest.mark.parametrize("kind", BLOCKWISE_KINDS)
def test_double_quantized_absmax_are_quantized_anew_each_time(kind: type[Blockwise]) -> None:
    """Their offset is a mean, which rounding them moves: the codes of the weights come back and the weights do not."""
    first = quantize_tensor(normal((64, 64), seed=2), kind(32, True))
    second = quantize_tensor(first.dequantize(), kind(32, True))
    assert not torch.equal(second.stored["weight_absmax_offset"], first.stored["weight_absmax_offset"])
    assert not torch.equal(second.scales, first.scales)
    assert not torch.equal(second.dequantize(), first.dequantize())


@per_kind(BLOCKWISE_SCHEMES)
@given(weight=weights((torch.bfloat16, torch.float16)), data=st.data())
def test_half_precision_weights_are_quantized_as_their_float32_copies(
    alike: Alike, weight: Tensor, data: st.DataObject
) -> None:
    scheme = data.draw(alike)
    actual, expected = quantize_tensor(weight, scheme).stored, quantize_tensor(weight.float(), scheme).stored
    assert {name: bits(part) for name, part in actual.items()} == {name: bits(part) for name, part in expected.items()}


def test_the_levels_leave_room_for_roundings() -> None:
    """What the proofs above rely on: neighbouring levels are at least 0.004 apart, so a midpoint is 0.002 from its
    levels.
    """
    for levels in oracle.LEVELS.values():
        distinct = sorted(set(levels))
        assert min(high - low for low, high in itertools.pairwise(distinct)) > 0.004
