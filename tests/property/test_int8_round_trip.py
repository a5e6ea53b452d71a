"""W8A16 for every weight: the error equals the distance to the grid, every code comes back, quantizing twice changes
nothing.

s is the scale, u = 2^-24. A quotient w/s carries one rounding, at most 127 u of it, and so does code * s. The error |w
- w'| is therefore the distance of w to the nearest multiple of s, give or take 2 * 127 u s: no quantizer of this format
does better or worse, and one that returns its input fails from below.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant.numerics.int8 import dequantize_rows, quantize_rows
from quant.schemes import W8A16
from tests import oracle
from tests.strategies import DTYPES, weights

ROUNDINGS = 2 * 127 * oracle.UNIT_ROUNDOFF * (1 + 2.0**-20)
"""Relative to the scale; the last factor is for second-order terms and float64."""


@given(weights(DTYPES))
def test_codes_and_scales_are_the_oracle_s(weight: Tensor) -> None:
    codes, scales = quantize_rows(weight)
    expected_codes, expected_scales = oracle.int8_rows(weight.float().tolist())
    assert codes.tolist() == expected_codes
    assert scales.tolist() == expected_scales


@given(weights(DTYPES))
def test_the_error_is_the_distance_to_the_grid(weight: Tensor) -> None:
    codes, scales = quantize_rows(weight)
    exact, scale = weight.float().double(), scales.double()[:, None]
    error = (dequantize_rows(codes, scales).double() - exact).abs()
    step = torch.where(scale > 0, scale, 1.0)
    distance = (exact / step - (exact / step).round()).abs() * step
    kept = (scale > 0).expand_as(exact)
    assert ((error - distance).abs() <= ROUNDINGS * scale)[kept].all()
    assert (error <= scale * (0.5 + ROUNDINGS))[kept].all()
    assert (exact.abs() <= 127 * oracle.SMALLEST_SCALE)[~kept].all()
    assert (error == exact.abs())[~kept].all()


@given(weights(DTYPES))
def test_codes_stay_within_127_and_a_row_that_is_kept_uses_it(weight: Tensor) -> None:
    codes, scales = quantize_rows(weight)
    largest = codes.to(torch.int16).abs().amax(dim=1)
    assert torch.equal(largest, torch.where(scales > 0, 127, 0).to(torch.int16))


@given(st.integers(300, 1500), st.floats(1e-30, 1e30))
def test_a_ramp_is_as_wrong_as_255_levels_must_make_it(count: int, absmax: float) -> None:
    """Of `count` evenly spaced points some level serves at least count/255, so it is off by half of their spread."""
    weight = (torch.linspace(-1, 1, count, dtype=torch.float64) * absmax).float()[None]
    codes, scales = quantize_rows(weight)
    back = dequantize_rows(codes, scales)
    worst = (back.double() - weight.double()).abs().max().item() / absmax
    fewest = (math.ceil(count / 255) - 1) / (count - 1)
    assert fewest - 2.0**-20 <= worst <= W8A16().worst_case_error + 2.0**-20
    assert len(set(back[0].tolist())) <= 255


@given(
    st.lists(st.integers(-127, 127), min_size=1, max_size=64),
    st.sampled_from((-127, 127)),
    st.floats(2.0**-125, 2.0**120, width=32),
)
def test_every_code_comes_back_whatever_the_scale(codes: list[int], largest: int, scale: float) -> None:
    """code * s / s' is off by at most 127 * 4 u, far less than 1/2, so rounding finds the code again."""
    row = [*codes, largest]
    weight = torch.tensor([oracle.dequantize_int8(row, scale)])
    actual, scales = quantize_rows(weight)
    assert actual.tolist() == [row]
    assert abs(scales.item() - scale) <= 2 * oracle.UNIT_ROUNDOFF * scale * (1 + 2.0**-20)


@given(weights())
def test_quantizing_what_was_dequantized_changes_nothing(weight: Tensor) -> None:
    """The row's largest code is 127, so the scale s becomes (127 s)/127: the same for every s = m/127, see below."""
    codes, scales = quantize_rows(weight)
    again, again_scales = quantize_rows(dequantize_rows(codes, scales))
    assert torch.equal(again, codes)
    assert torch.equal(again_scales, scales)


def test_a_scale_comes_back_from_its_largest_weight() -> None:
    """For every float32 m in [1, 2), and so for every normal one: powers of two change no rounding. It is not that
    127 s = m, which fails for one m in 129.
    """
    largest = (torch.arange(1 << 23, dtype=torch.int32) + (127 << 23)).view(torch.float32)
    scales = largest / 127
    assert torch.equal(scales * 127 / 127, scales)
    assert torch.count_nonzero(scales * 127 != largest) == 65020


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@given(data=st.data())
def test_half_precision_weights_are_quantized_as_their_float32_copies(dtype: torch.dtype, data: st.DataObject) -> None:
    weight = data.draw(weights((dtype,)))
    codes, scales = quantize_rows(weight)
    expected_codes, expected_scales = quantize_rows(weight.float())
    assert torch.equal(codes, expected_codes)
    assert torch.equal(scales, expected_scales)
