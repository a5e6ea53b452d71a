"""The absmax in 8 bits, for every list of absmax values: equal to the oracle, and within half a gap of the scale."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant import quantize_tensor
from quant.codebooks import DYNAMIC8_LEVELS
from quant.numerics.double_quantization import dequantize_absmax, quantize_absmax
from quant.schemes import Blockwise
from tests import oracle
from tests.strategies import BLOCKWISE_KINDS, FLOAT32_MAX, generator, tame_weights

HALF_GAP = max(high - low for low, high in itertools.pairwise(DYNAMIC8_LEVELS)) / 2
GRID_STEP = 2 / 65535


@st.composite
def absmax_values(draw: st.DrawFn, *more: st.SearchStrategy[float]) -> Tensor:
    """Up to three groups: a few drawn values, repeated and multiplied by noise of a drawn width."""
    few = draw(st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e12), *more), min_size=1, max_size=5))
    count = draw(st.sampled_from((1, 2, 255, 256, 257, 600)))
    width = draw(st.sampled_from((0.0, 1e-3, 1.0)))
    noise = torch.rand(count, generator=generator(draw(st.integers(0, 2**32 - 1))))
    return torch.tensor(few).repeat(count)[:count] * (1 + width * noise)


@given(absmax_values(st.floats(1e38, FLOAT32_MAX / 2)))
def test_codes_scales_and_values_are_the_oracle_s(absmax: Tensor) -> None:
    codes, scales, offset = quantize_absmax(absmax)
    expected_codes, expected_scales = oracle.quantize_absmax(absmax.tolist(), offset.item(), DYNAMIC8_LEVELS)
    assert codes.tolist() == expected_codes
    assert scales.tolist() == expected_scales
    back = dequantize_absmax(codes, scales, offset).tolist()
    assert back == oracle.dequantize_absmax(expected_codes, expected_scales, offset.item(), DYNAMIC8_LEVELS)


@given(absmax_values())
def test_the_error_is_at_most_half_a_gap_and_half_a_grid_step_of_the_scale(absmax: Tensor) -> None:
    """And float32 roundings, each of one unit roundoff u: the difference to the mean, the reciprocal, the quotient (3),
    the way to the grid (quotient + 1, times 65535, plus 0.5: 2 + 2 + 2 u of a quotient of 1), the grid's points and the
    midpoints of the levels that they are compared with (4), and level * scale (1), all of the scale; the last sum (1),
    of the result. The scale is at most the largest absmax: 15 u of that, and 16 cover their products.
    """
    codes, scales, offset = quantize_absmax(absmax)
    error = (dequantize_absmax(codes, scales, offset).double() - absmax.double()).abs()
    bound = scales.double().repeat_interleave(256)[: absmax.numel()] * (HALF_GAP + GRID_STEP / 2)
    assert (error <= bound + 16 * oracle.UNIT_ROUNDOFF * absmax.max().item()).all()


@pytest.mark.parametrize("kind", BLOCKWISE_KINDS)
@given(weight=tame_weights())
def test_double_quantization_changes_the_scales_and_not_the_codes(kind: type[Blockwise], weight: Tensor) -> None:
    plain, double = quantize_tensor(weight, kind(32)), quantize_tensor(weight, kind(32, True))
    assert torch.equal(plain.codes, double.codes)
    levels = torch.tensor(oracle.LEVELS[plain.scheme.name])
    level = levels[torch.tensor(oracle.unpack(double.codes.tolist(), weight.numel()))]
    expected = level * double.scales.repeat_interleave(32)[: weight.numel()]
    assert torch.equal(double.dequantize().reshape(-1), expected)
