"""The state of quantized layers: moves, casts, copies, saving and loading keep the codes, and loading refuses what does
not fit.
"""

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from quant import FP4, INT4, NF4, W8A16, BlockwiseLinear, W8A16Linear
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Blockwise, Scheme
from tests.models import seeded
from tests.strategies import ALL_SCHEMES, SCHEMES, bits, normal, scheme_id

OUT, IN = 7, 33
Bits = dict[str, list[int]]


def quantized(scheme: Scheme, seed: int = 0, dtype: torch.dtype = torch.float32) -> QuantizedLinear:
    return quantized_linear(seeded(lambda: nn.Linear(IN, OUT, dtype=dtype), seed), scheme)


def empty(scheme: Scheme) -> QuantizedLinear:
    """A layer of undefined codes, to be loaded into."""
    return BlockwiseLinear(IN, OUT, scheme) if isinstance(scheme, Blockwise) else W8A16Linear(IN, OUT, scheme)


def stored_bits(layer: QuantizedLinear) -> Bits:
    return {name: bits(tensor.reshape(-1)) for name, tensor in layer.stored.items()}


def state_bits(module: nn.Module) -> Bits:
    return {name: bits(tensor.reshape(-1)) for name, tensor in module.state_dict().items()}


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
TO_META: dict[str, Callable[[nn.Module], nn.Module]] = {
    "string": lambda module: module.to("meta"),
    "device": lambda module: module.to(torch.device("meta")),
    "keyword": lambda module: module.to(device="meta"),
    "tensor": lambda module: module.to(torch.empty(0, device="meta")),
    "device and dtype": lambda module: module.to("meta", torch.bfloat16),
    "non_blocking": lambda module: module.to("meta", non_blocking=True),
    "to_empty": lambda module: module.to_empty(device="meta"),
}


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
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


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_cast_sets_the_dtype_of_dequantize_and_back_again_loses_nothing(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = layer.quantized_weight.dequantize()
    half = layer.half().dequantize()
    assert half.get_parameter("weight").dtype == torch.float16
    assert bits(half.get_parameter("weight")) == bits(before.half())
    assert bits(layer.float().dequantize().get_parameter("weight")) == bits(before)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("spelling", TO_META)
def test_every_spelling_of_a_move_moves_every_tensor(spelling: str, scheme: Scheme) -> None:
    layer = TO_META[spelling](quantized(scheme))
    tensors = [
        *layer.parameters(),
        *layer.buffers(),
        *(value for value in vars(layer).values() if isinstance(value, torch.Tensor)),
    ]
    assert len(tensors) == len(layer.state_dict())
    assert all(tensor.is_meta for tensor in tensors)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_cast_follows_the_dtype_whatever_the_default_device(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = stored_bits(layer)
    with torch.device("meta"):
        layer.to(torch.bfloat16).to("cpu").half()
    assert (layer.dtype, stored_bits(layer)) == (torch.float16, before)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_meta_device_gives_shapes(scheme: Scheme) -> None:
    assert quantized(scheme).to("meta")(torch.empty(2, IN, device="meta")).shape == (2, OUT)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_move_of_the_model_moves_and_casts_its_layers(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = stored_bits(layer)
    model = nn.Sequential(layer, nn.LayerNorm(OUT)).to(torch.bfloat16)
    assert stored_bits(layer) == before
    assert model(normal((2, IN)).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_the_state_is_the_stored_tensors_and_the_bias_and_loads_into_an_empty_layer(scheme: Scheme) -> None:
    layer = quantized(scheme)
    state = layer.state_dict()
    assert set(state) == {*layer.stored, "bias"}
    fresh = empty(scheme)
    result = fresh.load_state_dict(state)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert state_bits(fresh) == state_bits(layer)
    x = normal((3, IN))
    assert bits(fresh(x)) == bits(layer(x))


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_loading_by_assignment_takes_the_tensors_themselves(scheme: Scheme) -> None:
    layer = quantized(scheme)
    fresh = empty(scheme).to("meta")
    fresh.load_state_dict(layer.state_dict(), assign=True)
    assert fresh.quantized_weight.codes.data_ptr() == layer.quantized_weight.codes.data_ptr()
    assert state_bits(fresh) == state_bits(layer)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_each_tensor_that_is_missing_is_named(scheme: Scheme) -> None:
    model = nn.Sequential(quantized(scheme))
    for missing in model.state_dict():
        state = {name: tensor for name, tensor in model.state_dict().items() if name != missing}
        with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{missing}"'):
            model.load_state_dict(state)


@pytest.mark.parametrize(("saved", "loading"), list(itertools.permutations(SCHEMES, 2)), ids=scheme_id)
def test_the_state_of_another_scheme_is_refused_and_nothing_is_loaded(saved: Scheme, loading: Scheme) -> None:
    model = nn.Sequential(quantized(loading, seed=1))
    state = nn.Sequential(quantized(saved)).state_dict()
    before = {name: part for name, part in state_bits(model).items() if name != "0.bias"}
    with pytest.raises(RuntimeError, match=r"0\.weight|0: tensors of format"):
        model.load_state_dict(state)
    assert {name: part for name, part in state_bits(model).items() if name != "0.bias"} == before


@pytest.mark.parametrize(
    ("saved", "loading"),
    [(NF4(32), INT4(32)), (FP4(32), NF4(32)), (NF4(2048), NF4(4096)), (NF4(32), FP4(32))],
    ids=scheme_id,
)
@pytest.mark.parametrize("strict", [True, False])
def test_tensors_of_equal_shapes_but_another_format_are_told_apart(
    strict: bool, saved: Blockwise, loading: Blockwise
) -> None:
    model = nn.Sequential(quantized(loading, seed=1))
    before = state_bits(model)
    with pytest.raises(
        RuntimeError,
        match=r"0.weight_format: tensors of format \(1, .*\) do not fit .* quantize the model with the scheme",
    ):
        model.load_state_dict(nn.Sequential(quantized(saved)).state_dict(), strict=strict)
    assert state_bits(model) == before


def test_a_float_weight_is_refused_where_codes_are_expected() -> None:
    layer = quantized(W8A16())
    with pytest.raises(RuntimeError, match="weight"):
        layer.load_state_dict(nn.Linear(IN, OUT).state_dict(), strict=False)


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_forward_and_dequantize_leave_the_state(scheme: Scheme) -> None:
    layer = quantized(scheme)
    before = state_bits(layer), {name: tensor.shape for name, tensor in layer.state_dict().items()}
    for rows in (1, 70):
        layer(normal((rows, IN))).sum().backward()
        layer.dequantize()
    assert (state_bits(layer), {name: tensor.shape for name, tensor in layer.state_dict().items()}) == before
    assert set(layer.state_dict()) == {*layer.stored, "bias"}


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_two_layers_share_no_tensor(scheme: Scheme) -> None:
    layers = [quantized(scheme), quantized(scheme)]
    pointers = [tensor.data_ptr() for layer in layers for tensor in layer.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
