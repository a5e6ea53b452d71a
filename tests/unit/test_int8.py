"""Rows of int8: exact codes and scales on hand-made rows, against the oracle, and at the edges of float32."""

import math

import pytest
import torch
from torch import Tensor

from quant import native
from quant.errors import QuantError
from quant.numerics import int8
from quant.numerics.int8 import dequantize_rows, quantize_rows
from tests import oracle
from tests.flushing import flushing_subnormals
from tests.strategies import DTYPES, FLOAT32_MAX, LAYOUTS, bits, generator, normal

SMALLEST_SCALE = 2.0**-125
HALF_MIN = {torch.float32: -45, torch.bfloat16: -40, torch.float16: -7, torch.float64: -45}
"""Smallest power of ten that the dtype can hold (subnormals included) and float32 as well."""
each_kernel = pytest.mark.parametrize("kernels", ["torch", *native.supported()])
"""Those of this CPU, and the formulas in torch, which every other device takes."""


def assert_equals_oracle(weight: Tensor) -> None:
    codes, scales = quantize_rows(weight)
    expected_codes, expected_scales = oracle.int8_rows(weight.float().tolist())
    assert codes.tolist() == expected_codes
    assert scales.tolist() == expected_scales


def test_rounds_to_nearest_and_halves_to_even() -> None:
    """The row's absmax is 127, so the scale is exactly 1 and the weights are the quotients."""
    steps = [0.49, 0.5, 0.51, 1.49, 1.5, 1.51, 2.5, 3.5, 125.5, 126.49, 126.5, 126.51]
    expected = [0, 0, 1, 1, 2, 2, 2, 4, 126, 126, 126, 127]
    row = [127.0, *steps, *(-step for step in steps)]
    codes, scales = quantize_rows(torch.tensor([row]))
    assert scales.tolist() == [1.0]
    assert codes.tolist() == [[127, *expected, *(-code for code in expected)]]


def test_quotients_are_divided_and_not_multiplied_by_a_reciprocal() -> None:
    """Weights halfway between codes: the reciprocal of the scale, rounded, moves them off the tie for most scales."""
    for scale in (3.0, 5.0, 7.0, 11.0, 0.1, 0.3, 1e-30):
        row = [127 * scale, *((code + 0.5) * scale for code in range(-127, 127))]
        assert_equals_oracle(torch.tensor([row]))


@each_kernel
def test_every_code_is_reached_and_minus_128_is_not(kernels: str) -> None:
    with native.override(kernels):
        codes, scales = quantize_rows(torch.arange(-127, 128).float()[None] * 2.0**-10)
        beyond, _ = quantize_rows(torch.tensor([[-128.0, 127.0, 128.0]]))
    assert codes.tolist() == [list(range(-127, 128))]
    assert scales.tolist() == [2.0**-10]
    assert beyond.tolist() == [[-127, 126, 127]]


def test_rounding_has_no_bias_towards_zero() -> None:
    """Weights are uniform between the codes -127 and 127 with scale 1: the error times the sign averages to 0.

    Its standard deviation is 1/sqrt(12) per weight, so 6 sigma of 10^5 weights are 0.0055; truncation would give -0.5.
    """
    count = 100_000
    magnitude = torch.rand(count, generator=generator(1)) * 126 + 0.5
    sign = torch.randint(0, 2, (count,), generator=generator(2)) * 2.0 - 1
    weight = torch.cat([torch.tensor([127.0]), magnitude * sign])[None]
    codes, scales = quantize_rows(weight)
    error = (dequantize_rows(codes, scales) - weight)[0, 1:] * sign
    assert abs(error.mean().item()) < 6 / math.sqrt(12 * count)
    assert error.abs().max().item() <= 0.5


def test_each_row_comes_back_by_its_own_scale() -> None:
    """Of a square matrix, so that there are as many columns as scales."""
    codes = torch.tensor([[1, 2, -3], [4, 5, 6], [-7, 8, 9]], dtype=torch.int8)
    scales = torch.tensor([1.0, 10.0, 0.5])
    expected = [[1.0, 2.0, -3.0], [40.0, 50.0, 60.0], [-3.5, 4.0, 4.5]]
    assert dequantize_rows(codes, scales).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (4, 4), (3, 129)])
def test_codes_and_scales_equal_the_oracle(shape: tuple[int, int], dtype: torch.dtype) -> None:
    assert_equals_oracle(normal(shape, seed=3, std=0.02).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_rows_get_scale_zero_and_leave_their_neighbours_alone(zero: float, dtype: torch.dtype) -> None:
    weight = torch.tensor([[1.0, -2.0, 0.5], [zero] * 3, [3.0, 0.0, -1.0]], dtype=dtype)
    codes, scales = quantize_rows(weight)
    assert codes[1].tolist() == [0, 0, 0]
    assert scales[1].item() == 0.0
    assert bits(dequantize_rows(codes, scales)[1]) == bits(torch.zeros(3))
    assert_equals_oracle(weight)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tiny_rows_stay_accurate_until_the_scale_leaves_the_normal_range(dtype: torch.dtype) -> None:
    """A scale computed with an epsilon, in half precision or through a reciprocal fails one of these magnitudes."""
    for exponent in range(HALF_MIN[dtype], 5):
        weight = torch.tensor([[1.0, -0.6, 0.31, 0.0]], dtype=torch.float64).mul(10.0**exponent).to(dtype)
        codes, scales = quantize_rows(weight)
        assert_equals_oracle(weight)
        source = weight.double()
        error = (dequantize_rows(codes, scales).double() - source).abs().max().item()
        absmax = source.abs().max().item()
        bound = absmax / 127 * (0.5 + 2.0**-16) if absmax / 127 >= SMALLEST_SCALE else absmax
        assert error <= bound, exponent


def test_the_smallest_kept_scale_is_twice_the_smallest_normal_float32() -> None:
    codes, scales = quantize_rows(torch.tensor([[127 * SMALLEST_SCALE], [126 * SMALLEST_SCALE]]))
    assert scales.tolist() == [SMALLEST_SCALE, 0.0]
    assert codes.tolist() == [[127], [0]]


def test_rows_of_normal_numbers_do_not_depend_on_flushing_subnormals() -> None:
    weight = torch.tensor([[127 * SMALLEST_SCALE, 2 * SMALLEST_SCALE], [1e-37, -3e-38], [1e-30, 1e-31], [0.0, 1.0]])
    expected_codes, expected_scales = quantize_rows(weight)
    with flushing_subnormals():
        codes, scales = quantize_rows(weight)
    assert torch.equal(codes, expected_codes)
    assert bits(scales) == bits(expected_scales)


def test_rows_with_a_subnormal_do_not_depend_on_flushing_subnormals() -> None:
    weight = torch.tensor([[127 * SMALLEST_SCALE, 0.49 * SMALLEST_SCALE]])
    expected, _ = quantize_rows(weight)
    with flushing_subnormals():
        flushed, _ = quantize_rows(weight)
    assert torch.equal(flushed, expected)


@pytest.mark.parametrize("value", [FLOAT32_MAX / 2, 3.4e38, -3.4e38])
def test_huge_rows_stay_finite(value: float) -> None:
    weight = torch.tensor([[value, value / 3]])
    assert_equals_oracle(weight)
    assert dequantize_rows(*quantize_rows(weight)).isfinite().all()


@each_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_get_a_float32_scale(dtype: torch.dtype, kernels: str) -> None:
    """An epsilon or an absmax/127 taken in bfloat16 would be off by 2^-9 or more; one float32 rounding is 2^-24."""
    weight = normal((16, 256), seed=4, std=0.02).to(dtype)
    with native.override(kernels):
        _, scales = quantize_rows(weight)
    expected = weight.double().abs().amax(dim=1) / 127
    assert scales.dtype == torch.float32
    assert ((scales.double() - expected).abs() <= expected * 2.0**-24).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_do_not_matter(layout: str) -> None:
    weight = LAYOUTS[layout](normal((6, 10), seed=5))
    codes, scales = quantize_rows(weight)
    expected_codes, expected_scales = quantize_rows(weight.clone(memory_format=torch.contiguous_format))
    assert torch.equal(codes, expected_codes)
    assert codes.is_contiguous()
    assert bits(scales) == bits(expected_scales)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the formulas in torch: the kernels have none."""
    weight = normal((7, 33), seed=6)
    whole = quantize_rows(weight)
    with native.override("torch"):
        for elements in (1, 33, 70):
            monkeypatch.setattr(int8, "CHUNK_ELEMENTS", elements)
            assert [bits(part) for part in quantize_rows(weight)] == [bits(part) for part in whole]


@each_kernel
def test_the_largest_floats_stay_finite(kernels: str) -> None:
    """Their scale is rounded down, for 127 times the nearest one is infinite: by one last bit at most, 2^-23 of it. The
    product is rounded by half a bit, 2^-24 of it.
    """
    weight = torch.tensor([[FLOAT32_MAX, -FLOAT32_MAX, -1e38]])
    assert (weight.amax() / 127 * 127).isinf()
    with native.override(kernels):
        assert_equals_oracle(weight)
        codes, scales = quantize_rows(weight)
    assert codes[0, :2].tolist() == [127, -127]
    largest = dequantize_rows(codes, scales).amax().item()
    assert FLOAT32_MAX * (1 - 2**-23) * (1 - 2**-24) <= largest < math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_with_their_number(bad: float) -> None:
    weight = torch.ones(3, 4)
    weight[2, 1] = weight[0, 3] = bad
    with pytest.raises(QuantError, match=r"shape \[3, 4\] has 2 NaN or infinite values"):
        quantize_rows(weight)


def test_a_float64_beyond_float32_is_refused() -> None:
    with pytest.raises(QuantError, match="infinite"):
        quantize_rows(torch.tensor([[1e300]], dtype=torch.float64))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_only_matrices_are_accepted(shape: tuple[int, ...]) -> None:
    with pytest.raises(QuantError, match=r"W8A16 needs a weight \[out, in\]"):
        quantize_rows(torch.ones(shape))


@pytest.mark.parametrize("kernels", [native.variant(), "torch"])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty_matrices_give_empty_codes_and_zero_scales(shape: tuple[int, int], kernels: str) -> None:
    with native.override(kernels):
        codes, scales = quantize_rows(torch.empty(shape))
    assert codes.shape == shape
    assert scales.tolist() == [0.0] * shape[0]
