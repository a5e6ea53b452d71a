"""Gradients of quantized layers: those of the float layer with the same weight, for x and the bias, and what is kept
for them.
"""

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Scheme
from tests import integer_oracle, oracle
from tests.models import seeded
from tests.strategies import SCHEMES, bits, normal, scheme_id

OUT, IN = 7, 33


def quantized(scheme: Scheme, bias: bool = True) -> QuantizedLinear:
    return quantized_linear(seeded(lambda: nn.Linear(IN, OUT, bias=bias)), scheme)


def weight_of(layer: QuantizedLinear) -> Tensor:
    return layer.quantized_weight.dequantize(torch.float32)


def error_of_grad_x(grad_x: Tensor, grad_y: Tensor, layer: QuantizedLinear) -> float:
    """In units of what arithmetic explains: the gradient for x is grad_y W."""
    return oracle.linear_error(
        grad_x.reshape(-1, IN).tolist(),
        grad_y.reshape(-1, OUT).tolist(),
        weight_of(layer).t().tolist(),
        dtype=str(grad_x.dtype).removeprefix("torch."),
    )


def error_of_grad_bias(grad_bias: Tensor, grad_y: Tensor) -> float:
    """The gradient for the bias is the sum of grad_y over all rows."""
    rows = grad_y.reshape(-1, OUT)
    dtype = str(grad_bias.dtype).removeprefix("torch.")
    return oracle.linear_error([grad_bias.tolist()], [[1.0] * len(rows)], rows.t().tolist(), dtype=dtype)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("shape", [(IN,), (4, IN), (2, 3, IN)], ids=str)
def test_gradients_are_those_of_the_dequantized_layer(shape: tuple[int, ...], scheme: Scheme) -> None:
    layer = quantized(scheme)
    assert layer.bias is not None
    x = normal(shape, seed=1).requires_grad_()
    grad_y = normal((*shape[:-1], OUT), seed=2)
    layer(x).backward(grad_y)
    assert x.grad is not None
    assert layer.bias.grad is not None
    assert error_of_grad_x(x.grad, grad_y, layer) <= 1
    assert error_of_grad_bias(layer.bias.grad, grad_y) <= 1

    twin, x_twin = layer.dequantize(), x.detach().requires_grad_()
    layer.bias.grad = None
    twin(x_twin).backward(grad_y)
    assert x_twin.grad is not None
    assert error_of_grad_x(x_twin.grad, grad_y, layer) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_gradient_through_a_square_weight_is_not_transposed(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(16, 16)), scheme)
    x = torch.zeros(16, 16, requires_grad=True)
    layer(x).backward(torch.eye(16))
    assert x.grad is not None
    assert torch.equal(x.grad, weight_of(layer))
    assert not torch.equal(x.grad, weight_of(layer).t())


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_gradients_have_the_dtype_of_what_they_are_for(dtype: torch.dtype, scheme: Scheme) -> None:
    layer = quantized(scheme).to(dtype)
    assert layer.bias is not None
    x = normal((4, IN), seed=1).to(dtype).requires_grad_()
    grad_y = normal((4, OUT), seed=2).to(dtype)
    layer(x).backward(grad_y)
    assert x.grad is not None
    assert layer.bias.grad is not None
    assert (x.grad.dtype, layer.bias.grad.dtype) == (dtype, dtype)
    assert error_of_grad_x(x.grad, grad_y, layer) <= 1
    assert error_of_grad_bias(layer.bias.grad, grad_y) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_expanded_and_transposed_gradients_are_read_by_their_strides(scheme: Scheme) -> None:
    layer = quantized(scheme)
    transposed = normal((OUT, 4), seed=2).t()
    for grad_y in (torch.ones(1, 1).expand(4, OUT), transposed):
        x = normal((4, IN), seed=1).requires_grad_()
        layer(x).backward(grad_y)
        assert x.grad is not None
        assert error_of_grad_x(x.grad, grad_y, layer) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_no_rows_give_empty_and_zero_gradients(scheme: Scheme) -> None:
    layer = quantized(scheme)
    x = torch.empty(0, IN, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert x.grad.shape == (0, IN)
    assert layer.bias.grad.tolist() == [0.0] * OUT


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("shape", [(1, IN), (2, 1, IN)], ids=str)
def test_the_gradient_can_be_differentiated(shape: tuple[int, ...], scheme: Scheme) -> None:
    """For y = W x + b and loss sum(y^2)/2 the gradient is W^T y and that of its sum W^T W 1, whatever x is."""
    layer = quantized(scheme)
    x = normal(shape, seed=1).requires_grad_()
    (grad,) = torch.autograd.grad(layer(x).square().sum() / 2, x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    inner = weight_of(layer).double().sum(dim=1)
    # W 1 is the layer's product for x of ones, whose fixed point is exact; then levels, and two products' roundings.
    weight = weight_of(layer).double()
    bound = (50 * 2.0**-24 + integer_oracle.LEVEL_ERROR[scheme.name]) * (weight.abs().sum(dim=1) @ weight.abs())
    assert ((second.double() - inner @ weight).abs() <= bound).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_checkpointing_gives_the_same_bits(scheme: Scheme) -> None:
    layer = quantized(scheme)
    plain, checkpointed = (normal((4, IN), seed=1).requires_grad_() for _ in range(2))
    layer(plain).square().sum().backward()
    y = checkpoint(layer, checkpointed, use_reentrant=False)
    y.square().sum().backward()
    assert plain.grad is not None
    assert checkpointed.grad is not None
    assert bits(plain.grad) == bits(checkpointed.grad)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_under_autocast_the_product_and_its_gradient_are_those_of_bfloat16(scheme: Scheme) -> None:
    layer = quantized(scheme)
    x = normal((4, IN), seed=1).requires_grad_()
    grad_y = normal((4, OUT), seed=2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.backward(grad_y)
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert x.grad is not None
    assert (y.dtype, x.grad.dtype, layer.bias.grad.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert error_of_grad_x(x.grad.bfloat16(), grad_y, layer) <= 1
    assert error_of_grad_bias(layer.bias.grad, grad_y) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_backward_keeps_the_codes_and_their_scales_and_nothing_else(scheme: Scheme) -> None:
    """A float copy of the weight, or x, would be more than all that is kept."""
    layer = quantized_linear(seeded(lambda: nn.Linear(256, 64)), scheme)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = normal((128, 256)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x).sum().backward()
    stored = {tensor.data_ptr() for name, tensor in layer.stored.items() if name != "weight_format"}
    assert {tensor.data_ptr() for tensor in kept} == stored
    assert len(kept) == len(stored)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_input_is_not_kept_alive(scheme: Scheme) -> None:
    layer = quantized(scheme)
    hidden = normal((4, IN)).requires_grad_() * 2
    alive = weakref.ref(hidden)
    y = layer(hidden)
    del hidden
    assert alive() is None
    y.sum().backward()


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_frozen_layer_keeps_nothing_and_builds_no_graph(scheme: Scheme) -> None:
    layer = quantized(scheme).requires_grad_(False)
    assert not layer(normal((4, IN))).requires_grad


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_only_the_bias_can_be_trained(scheme: Scheme) -> None:
    layer = quantized(scheme).train().requires_grad_(True)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert not any(buffer.requires_grad for buffer in layer.buffers())
    before = {name: bits(tensor.reshape(-1)) for name, tensor in layer.stored.items()}
    assert layer.bias is not None
    bias = bits(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(normal((4, IN))).square().sum().backward()
    optimizer.step()
    assert {name: bits(tensor.reshape(-1)) for name, tensor in layer.stored.items()} == before
    assert bits(layer.bias) != bias


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_inference_mode_first_does_not_spoil_training_later(scheme: Scheme) -> None:
    layer = quantized(scheme)
    with torch.inference_mode():
        expected = layer(normal((4, IN)))
    x = normal((4, IN)).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y, expected)
    assert x.grad is not None
