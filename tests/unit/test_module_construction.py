"""Quantized layers that are made empty, to be loaded into, and what they store for a float weight (`encode`)."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from quant import QuantError, W8A16Linear, quantize_tensor
from quant.modules import BlockwiseLinear, QuantizedLinear, quantized_linear
from quant.schemes import NF4, W8A16, Scheme
from tests.models import seeded
from tests.strategies import SCHEMES, bits, normal, scheme_id

OUT, IN = 7, 33


def empty(scheme: Scheme, bias: bool = True, device: str | None = None) -> QuantizedLinear:
    kind = W8A16Linear if isinstance(scheme, W8A16) else BlockwiseLinear
    return kind(IN, OUT, scheme, bias, device, torch.bfloat16)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_an_empty_layer_has_the_tensors_of_a_full_one_where_it_is_asked_to(scheme: Scheme, device: str) -> None:
    full = quantized_linear(nn.Linear(IN, OUT, dtype=torch.bfloat16), scheme)
    layer = empty(scheme, device=device)
    described = {name: (tensor.dtype, tensor.shape) for name, tensor in layer.state_dict().items()}
    assert described == {name: (tensor.dtype, tensor.shape) for name, tensor in full.state_dict().items()}
    assert {tensor.device.type for tensor in layer.state_dict().values()} == {device}
    assert "bias" not in empty(scheme, bias=False, device=device).state_dict()


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_an_empty_layer_that_was_loaded_into_becomes_a_linear_that_can_be_trained(scheme: Scheme) -> None:
    full = quantized_linear(seeded(lambda: nn.Linear(IN, OUT, dtype=torch.bfloat16)), scheme)
    layer = empty(scheme)
    layer.load_state_dict(full.state_dict())
    linear = layer.dequantize()
    assert type(linear) is nn.Linear
    assert bits(linear.weight.reshape(-1)) == bits(full.quantized_weight.dequantize().reshape(-1))
    assert linear.weight.requires_grad


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_weight_is_encoded_as_quantizing_stores_it(scheme: Scheme) -> None:
    weight = normal((OUT, IN))
    stored = quantize_tensor(weight, scheme).stored
    encoded = empty(scheme).encode(weight)
    assert {name: bits(part) for name, part in encoded.items()} == {name: bits(part) for name, part in stored.items()}


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=scheme_id)
def test_the_weight_of_a_conv1d_is_encoded_transposed(scheme: Scheme) -> None:
    layer = quantized_linear(Conv1D(OUT, IN), scheme)
    weight = normal((IN, OUT))
    expected = quantize_tensor(weight.t(), scheme).stored
    assert {name: bits(part) for name, part in layer.encode(weight).items()} == {
        name: bits(part) for name, part in expected.items()
    }


def test_a_weight_of_another_shape_is_not_encoded() -> None:
    with pytest.raises(QuantError, match=r"W8A16Linear\(.*expected a weight \[out, in\] = \[7, 33\], got \[33, 7\]"):
        empty(W8A16()).encode(normal((IN, OUT)))


@pytest.mark.parametrize(("name", "stored"), [("weight", "torch.int8"), ("weight_scale", "torch.float32")])
def test_tensors_of_another_dtype_are_not_loaded(name: str, stored: str) -> None:
    """Of the right shape, so that only their dtype tells."""
    layer = W8A16Linear.from_linear(nn.Linear(IN, OUT))
    state = {key: tensor.clone() for key, tensor in layer.state_dict().items()}
    state[name] = state[name].to(torch.float64)
    message = rf"{name}: W8A16\(\) stores {stored}, the checkpoint holds torch\.float64"
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict(state)
