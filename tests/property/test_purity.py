"""Nothing but the values of a weight matters, and nothing is changed: layouts, repetition, inputs, layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant import quantize_tensor
from quant.schemes import Scheme
from quant.tensor import QuantizedTensor
from tests import integer_oracle, oracle
from tests.models import layer_of
from tests.strategies import ALL_SCHEMES, DTYPES, LAYOUTS, bits, per_kind, tame_weights, weights


def stored_bits(quantized: QuantizedTensor) -> dict[str, list[int]]:
    return {name: bits(tensor) for name, tensor in quantized.stored.items()}


@per_kind(ALL_SCHEMES)
@given(weight=weights(DTYPES), data=st.data())
def test_quantizing_and_dequantizing_change_no_input_and_repeat(
    alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject
) -> None:
    scheme = data.draw(alike)
    before = bits(weight)
    quantized = quantize_tensor(weight, scheme)
    stored = stored_bits(quantized)
    first, second = quantized.dequantize(), quantized.dequantize()
    assert bits(first) == bits(second)
    assert bits(weight) == before
    assert stored_bits(quantized) == stored
    assert stored_bits(quantize_tensor(weight, scheme)) == stored


@per_kind(ALL_SCHEMES)
@given(weight=weights(DTYPES), data=st.data())
def test_finite_weights_come_back_finite(alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject) -> None:
    scheme = data.draw(alike)
    quantized = quantize_tensor(weight, scheme)
    assert quantized.scales.isfinite().all()
    assert quantized.dequantize(torch.float32).isfinite().all()
    assert quantized.dequantize().isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@per_kind(ALL_SCHEMES)
@given(weight=weights(DTYPES), data=st.data())
def test_strides_and_offsets_do_not_matter(
    layout: str, alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject
) -> None:
    scheme = data.draw(alike)
    view = LAYOUTS[layout](weight)
    contiguous = view.clone(memory_format=torch.contiguous_format)
    assert stored_bits(quantize_tensor(view, scheme)) == stored_bits(quantize_tensor(contiguous, scheme))


@per_kind(ALL_SCHEMES)
@given(weight=weights(), data=st.data())
def test_a_float64_weight_is_quantized_as_its_float32_copy(
    alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject
) -> None:
    scheme = data.draw(alike)
    noisy = weight.double() * (1 + 1e-9)
    assert stored_bits(quantize_tensor(noisy, scheme)) == stored_bits(quantize_tensor(noisy.float(), scheme))


@per_kind(ALL_SCHEMES)
@given(weight=tame_weights(), data=st.data())
def test_forward_is_the_exact_product_within_float32_and_changes_nothing(
    alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject
) -> None:
    scheme = data.draw(alike)
    layer = layer_of(weight, scheme, bias=torch.arange(float(len(weight))))
    x = data.draw(tame_weights()).reshape(-1)[: weight.shape[1]]
    x = torch.nn.functional.pad(x, (0, weight.shape[1] - len(x)))[None].repeat(3, 1)
    before = bits(x), {name: bits(tensor) for name, tensor in layer.state_dict().items()}
    y = layer(x)
    assert (bits(x), {name: bits(tensor) for name, tensor in layer.state_dict().items()}) == before
    dequantized = layer.quantized_weight.dequantize().tolist()
    assert layer.bias is not None
    operands = (x.tolist(), dequantized, layer.bias.tolist())
    level_error = integer_oracle.LEVEL_ERROR[scheme.name]
    assert oracle.linear_error(y.tolist(), *operands, level_error=level_error) <= 1
