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
from tests.strategies import DTYPES, LAYOUTS, SCHEMES, bits, schemes, tame_weights, weights


def stored_bits(quantized: QuantizedTensor) -> dict[str, list[int]]:
    return {name: bits(tensor) for name, tensor in quantized.stored.items()}


@pytest.mark.parametrize("drawn_weights", [weights(DTYPES), weights(), tame_weights()], ids=["dtypes", "any", "tame"])
def test_every_registered_kind_is_drawn(drawn_weights: st.SearchStrategy[Tensor]) -> None:
    """Beside a weight, which takes most of what hypothesis varies."""
    drawn = set()

    @given(drawn_weights, schemes())
    def draw(weight: Tensor, scheme: Scheme) -> None:
        drawn.add(scheme)

    draw()
    assert drawn >= set(SCHEMES)


@given(weights(DTYPES), schemes())
def test_quantizing_and_dequantizing_change_no_input_and_repeat(weight: Tensor, scheme: Scheme) -> None:
    before = bits(weight)
    quantized = quantize_tensor(weight, scheme)
    stored = stored_bits(quantized)
    first, second = quantized.dequantize(), quantized.dequantize()
    assert bits(first) == bits(second)
    assert bits(weight) == before
    assert stored_bits(quantized) == stored
    assert stored_bits(quantize_tensor(weight, scheme)) == stored


@given(weights(DTYPES), schemes())
def test_finite_weights_come_back_finite(weight: Tensor, scheme: Scheme) -> None:
    quantized = quantize_tensor(weight, scheme)
    assert quantized.scales.isfinite().all()
    assert quantized.dequantize(torch.float32).isfinite().all()
    assert quantized.dequantize().isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@given(weight=weights(DTYPES), scheme=schemes())
def test_strides_and_offsets_do_not_matter(layout: str, weight: Tensor, scheme: Scheme) -> None:
    view = LAYOUTS[layout](weight)
    contiguous = view.clone(memory_format=torch.contiguous_format)
    assert stored_bits(quantize_tensor(view, scheme)) == stored_bits(quantize_tensor(contiguous, scheme))


@given(weights(), schemes())
def test_a_float64_weight_is_quantized_as_its_float32_copy(weight: Tensor, scheme: Scheme) -> None:
    noisy = weight.double() * (1 + 1e-9)
    assert stored_bits(quantize_tensor(noisy, scheme)) == stored_bits(quantize_tensor(noisy.float(), scheme))


@given(tame_weights(), schemes(), st.data())
def test_forward_is_the_exact_product_within_float32_and_changes_nothing(
    weight: Tensor, scheme: Scheme, data: st.DataObject
) -> None:
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
