"""Blocks of 4 bits on a CPU that flushes subnormals to zero. The native kernels do not flush. torch's operations do: no
NaN, errors within the bound, and the same values wherever no subnormal takes part.
"""

import pytest
import torch
from torch import Tensor

from quant import FP4, INT4, NF4, QuantizedTensor, native, quantize_tensor
from quant.schemes import Blockwise
from tests.flushing import flushing_subnormals
from tests.strategies import bits, normal, scheme_id

SCHEMES: tuple[Blockwise, ...] = (NF4(32), NF4(32, True), FP4(32), INT4(32))
each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)


def flushed(weight: Tensor, scheme: Blockwise) -> QuantizedTensor:
    """`weight` quantized by torch's operations while they flush."""
    with flushing_subnormals(), native.override("torch"):
        return quantize_tensor(weight, scheme)


def bits_of(quantized: QuantizedTensor) -> dict[str, list[int]]:
    return {name: bits(part.reshape(-1)) for name, part in quantized.stored.items()}


@each_scheme
@pytest.mark.parametrize("variant", native.supported())
@pytest.mark.parametrize("magnitude", [1e-45, 1e-39, 1e-38, 1e-35, 1.0, 1e38])
def test_native_kernels_do_not_flush(magnitude: float, variant: str, scheme: Blockwise) -> None:
    weight = normal((3000, 35), seed=11).clamp(-3, 3) * magnitude
    with native.override(variant):
        expected = quantize_tensor(weight, scheme)
        with flushing_subnormals():
            quantized = quantize_tensor(weight, scheme)
            # Reading the absmax is torch's business, and a second quantization of it too.
            assert torch.equal(quantized.codes, expected.codes)
    if not scheme.double_quant:
        assert bits_of(quantized) == bits_of(expected)


@each_scheme
@pytest.mark.parametrize("count", [32, 35, 3], ids=["block", "block and tail", "tail"])
@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, -1e-39, 1.17e-38])
def test_blocks_of_zeros_and_subnormals_are_zeros(value: float, count: int, scheme: Blockwise) -> None:
    quantized = flushed(torch.full((count,), value), scheme)
    zeros = quantize_tensor(torch.zeros(count), scheme)
    assert bits(quantized.codes) == bits(zeros.codes)
    with flushing_subnormals():
        assert quantized.dequantize().tolist() == [0.0] * count


@each_scheme
@pytest.mark.parametrize("exponent", range(-45, 39))
def test_any_magnitude_stays_finite_and_within_the_error_bound(exponent: int, scheme: Blockwise) -> None:
    weight = normal((35,), seed=11).clamp(-3, 3) * 10.0**exponent
    back = flushed(weight, scheme).dequantize()
    assert back.isfinite().all()
    absmax = weight.abs().max().item()
    # A flushed weight is off by its own size, less than the smallest normal number. A second quantization takes the
    # absmax to the nearest of levels that are at most 0.9/64 of the spread of all absmax apart.
    slack = absmax * (0.9 / 128 if scheme.double_quant else 0.0) + absmax * 2.0**-15 + torch.finfo(torch.float32).tiny
    assert (back - weight).abs().max().item() <= absmax * scheme.worst_case_error + slack


@each_scheme
def test_where_no_subnormal_takes_part_the_values_are_the_same(scheme: Blockwise) -> None:
    weight = torch.cat([normal((64,), seed=3), normal((70,), seed=4) * 1e-30])
    expected = quantize_tensor(weight, scheme)
    assert bits_of(flushed(weight, scheme)) == bits_of(expected)


@each_scheme
def test_a_subnormal_among_larger_weights_is_zero_either_way(scheme: Blockwise) -> None:
    """1e-35 is the smallest absmax at which no level but zero is near a subnormal, in any of the codebooks."""
    weight = normal((64,), seed=5).clamp(-0.9, 0.9) * 1e-35
    weight[3], weight[40], weight[7], weight[50] = 1e-35, -1e-35, 1.1e-38, -1.1e-38
    assert torch.equal(flushed(weight, scheme).dequantize(), quantize_tensor(weight, scheme).dequantize())
