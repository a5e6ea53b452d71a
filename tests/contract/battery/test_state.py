"""The state of a quantized layer: every move, cast and copy keeps the codes, however it is spelled."""

import copy
import pickle
from collections.abc import Callable
from types import MethodType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from quant.modules import QuantizedLinear
from quant.schemes import W8A16, Scheme
from tests.contract.battery.layers import IN, OUT, TO_META, empty, held_tensors, quantized, stored_bits
from tests.strategies import bits, normal


def reloaded(layer: QuantizedLinear) -> QuantizedLinear:
    fresh = empty(layer.scheme).to(layer.dtype)
    fresh.load_state_dict(layer.state_dict())
    return fresh


MOVES: dict[str, Callable[[QuantizedLinear], QuantizedLinear]] = {
    "cpu": lambda layer: layer.cpu(),
    "half": lambda layer: layer.half(),
    "bfloat16": lambda layer: layer.bfloat16(),
    "float": lambda layer: layer.float(),
    "double": lambda layer: layer.double(),
    "to dtype": lambda layer: layer.to(torch.float16),
    "to both": lambda layer: layer.to("cpu", torch.bfloat16),
    "to tensor": lambda layer: layer.to(torch.empty(0, dtype=torch.float64)),
    "type": lambda layer: layer.type(torch.float16),
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "reload": reloaded,
}
FINAL_DTYPE = {
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "float": torch.float32,
    "double": torch.float64,
    "to dtype": torch.float16,
    "to both": torch.bfloat16,
    "to tensor": torch.float64,
    "type": torch.float16,
}


@pytest.mark.parametrize("first", MOVES)
def test_any_two_moves_keep_every_bit_of_the_weight(first: str, scheme: Scheme) -> None:
    fresh = quantized(scheme)
    before, dtypes = stored_bits(fresh), {name: part.dtype for name, part in fresh.stored.items()}
    for second in MOVES:
        layer, dtype = quantized(scheme), torch.float32
        for move in (first, second):
            layer = MOVES[move](layer)
            dtype = FINAL_DTYPE.get(move, dtype)
            assert stored_bits(layer) == before, second
            assert {name: part.dtype for name, part in layer.stored.items()} == dtypes, second
            assert layer.bias is not None
            assert (layer.dtype, layer.bias.dtype) == (dtype, dtype), second
        x = normal((3, IN)).to(dtype)
        fresh.bias = layer.bias
        assert torch.equal(layer(x), fresh(x)), second


def test_a_cast_sets_the_dtype_of_dequantize_and_back_again_loses_nothing(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = layer.quantized_weight.dequantize()
    half = layer.half().dequantize()
    assert half.get_parameter("weight").dtype == torch.float16
    assert bits(half.get_parameter("weight")) == bits(before.half())
    assert bits(layer.float().dequantize().get_parameter("weight")) == bits(before)


@pytest.mark.parametrize("spelling", TO_META)
def test_every_spelling_of_a_move_moves_every_tensor(spelling: str, scheme: Scheme) -> None:
    layer = TO_META[spelling](quantized(scheme))
    tensors = held_tensors(layer)
    assert len(tensors) == len(layer.state_dict())
    assert all(tensor.is_meta for tensor in tensors)


class Slotted:
    """An object without a `__dict__`."""

    __slots__ = ("__absmax",)

    def __init__(self, absmax: Tensor) -> None:
        self.__absmax = absmax


WRAPPED: dict[str, Callable[[Tensor], object]] = {
    "itself": lambda absmax: absmax,
    "object": lambda absmax: SimpleNamespace(absmax=absmax),
    "slot": Slotted,
    "containers": lambda absmax: {"states": [(SimpleNamespace(absmax=absmax),)]},
    "bound method": lambda absmax: MethodType(print, SimpleNamespace(absmax=absmax)),
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("place", ["layer", "parameter", "buffer"])
def test_a_tensor_is_found_wherever_it_hangs(place: str, wrapped: Callable[[Tensor], object]) -> None:
    """As bitsandbytes' `quant_state` hangs on a weight, which moves left behind."""
    layer, absmax = quantized(W8A16()), torch.ones(1)
    before = held_tensors(layer)
    holders = {"layer": layer, "parameter": layer.bias, "buffer": layer.get_buffer("weight")}
    vars(holders[place])["quant_state"] = wrapped(absmax)
    assert {id(tensor) for tensor in held_tensors(layer)} == {id(absmax), *map(id, before)}
    assert len(before) == len(layer.state_dict())


def test_a_cast_follows_the_dtype_whatever_the_default_device(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = stored_bits(layer)
    with torch.device("meta"):
        layer.to(torch.bfloat16).to("cpu").half()
    assert (layer.dtype, stored_bits(layer)) == (torch.float16, before)


def test_the_meta_device_gives_shapes(scheme: Scheme) -> None:
    assert quantized(scheme).to("meta")(torch.empty(2, IN, device="meta")).shape == (2, OUT)


def test_a_move_of_the_model_moves_and_casts_its_layers(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = stored_bits(layer)
    model = nn.Sequential(layer, nn.LayerNorm(OUT)).to(torch.bfloat16)
    assert stored_bits(layer) == before
    assert model(normal((2, IN)).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_the_default_dtype_reaches_a_new_layer_s_bias_and_nothing_else(default: torch.dtype, scheme: Scheme) -> None:
    x = normal((2, IN))
    expected = quantized(scheme)
    y = expected(x)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        layer, fresh = quantized(scheme), empty(scheme)
        assert bits(layer(x)) == bits(y)
        assert bits(expected(x)) == bits(y)
    finally:
        torch.set_default_dtype(before)
    assert (layer.dtype, stored_bits(layer)) == (torch.float32, stored_bits(expected))
    assert fresh.bias is not None
    assert (fresh.dtype, fresh.bias.dtype) == (default, default)
    for made in (layer, fresh):
        assert {name: part.dtype for name, part in made.stored.items()} == {
            name: part.dtype for name, part in expected.stored.items()
        }


def test_two_layers_share_no_tensor(scheme: Scheme) -> None:
    layers = [quantized(scheme), quantized(scheme)]
    pointers = [tensor.data_ptr() for layer in layers for tensor in layer.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
