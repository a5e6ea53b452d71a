"""Quantized layers: made from a layer, their forward in every dtype and shape, what they refuse, and the way back."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from quant import FP4, NF4, W8A16, BlockwiseLinear, QuantError, W8A16Linear, quantize_tensor
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Blockwise, Scheme
from tests import integer_oracle, oracle
from tests.models import seeded
from tests.strategies import ALL_SCHEMES, DTYPES, SCHEMES, bits, normal, scheme_id

OUT, IN = 7, 33


def linear(bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Linear:
    return seeded(lambda: nn.Linear(IN, OUT, bias=bias, dtype=dtype))


def error(y: Tensor, x: Tensor, layer: QuantizedLinear) -> float:
    """Largest error of `y` in units of what arithmetic explains, against exact sums over the dequantized weight."""
    weight = layer.quantized_weight.dequantize(torch.float32).tolist()
    bias = None if layer.bias is None else layer.bias.tolist()
    dtype = str(y.dtype).removeprefix("torch.")
    level_error = integer_oracle.LEVEL_ERROR[layer.scheme.name]
    rows = x.reshape(-1, IN).tolist()
    return oracle.linear_error(y.reshape(-1, OUT).tolist(), rows, weight, bias, dtype, level_error)


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_from_a_layer_come_its_codes_its_own_bias_and_its_mode(scheme: Scheme) -> None:
    source = linear().eval()
    before = copy.deepcopy(source.state_dict())
    layer = quantized_linear(source, scheme)
    expected = quantize_tensor(source.weight, scheme)
    assert {name: bits(part.reshape(-1)) for name, part in layer.stored.items()} == {
        name: bits(part.reshape(-1)) for name, part in expected.stored.items()
    }
    assert layer.bias is source.bias
    assert (layer.in_features, layer.out_features, layer.dtype, layer.training) == (IN, OUT, torch.float32, False)
    assert {name: bits(part) for name, part in source.state_dict().items()} == {
        name: bits(part) for name, part in before.items()
    }


def test_the_public_constructors_make_the_documented_types() -> None:
    assert type(W8A16Linear.from_linear(linear())) is W8A16Linear
    assert W8A16Linear.from_linear(linear()).scheme == W8A16Linear.from_linear(linear(), W8A16()).scheme == W8A16()
    assert type(BlockwiseLinear.from_linear(linear(), NF4(32))) is BlockwiseLinear
    assert BlockwiseLinear.from_linear(linear(), FP4(32, True)).scheme == FP4(32, True)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("shape", [(IN,), (1, IN), (2, 1, IN), (1, 7, IN), (0, IN), (2, 3, 1, IN)], ids=str)
def test_forward_of_any_leading_shape_is_within_what_float32_explains(shape: tuple[int, ...], scheme: Scheme) -> None:
    layer = quantized_linear(linear(), scheme)
    x = normal(shape, seed=1)
    y = layer(x)
    assert y.shape == (*shape[:-1], OUT)
    assert error(y, x, layer) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_dtype_of_x_is_the_dtype_of_y_in_whatever_order_they_come(scheme: Scheme) -> None:
    for order in (DTYPES, DTYPES[::-1]):
        layer = quantized_linear(linear(dtype=torch.bfloat16), scheme)
        for dtype in order:
            x = normal((3, IN), seed=1).to(dtype)
            y = layer(x)
            assert y.dtype == dtype
            assert error(y, x, layer) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_the_output_dtype_is_that_of_a_float_layer(
    autocast: torch.dtype, dtype: torch.dtype, scheme: Scheme
) -> None:
    layer, twin = quantized_linear(linear(), scheme), linear(dtype=dtype)
    x = normal((3, IN), seed=1).to(dtype)
    with torch.autocast("cpu", dtype=autocast):
        assert layer(x).dtype == twin(x).dtype
        with torch.autocast("cpu", enabled=False):
            assert layer(x).dtype == dtype


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_the_product_is_still_computed_in_float32(autocast: torch.dtype, scheme: Scheme) -> None:
    layer = quantized_linear(linear(), scheme)
    x = normal((3, IN), seed=1)
    with torch.autocast("cpu", dtype=autocast):
        y = layer(x)
    assert error(y, x.to(autocast), layer) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("rows", [1, 40])
def test_the_bias_is_added_once_with_and_without_gradients(rows: int, scheme: Scheme) -> None:
    """A bias of 1000 dwarfs the products, so no tolerance can hide a missing or doubled one."""
    source = linear()
    assert source.bias is not None
    source.bias.data.fill_(1000.0)
    layer, bare = quantized_linear(source, scheme), quantized_linear(linear(bias=False), scheme)
    x = normal((rows, IN), seed=1)
    assert bare.bias is None
    for training in (True, False):
        layer.train(training)
        assert error(layer(x), x, layer) <= 1
        with torch.no_grad():
            assert error(layer(x), x, layer) <= 1
            assert error(bare(x), x, bare) <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(2, IN + 1), rf"expected input \[\.\.\., {IN}\], got \[2, {IN + 1}\]"),
        (torch.ones(IN, 2), rf"expected input \[\.\.\., {IN}\], got \[{IN}, 2\]"),
        (torch.ones(()), r"got \[\]"),
        (torch.ones(2, IN, dtype=torch.int64), "expected a float input, got torch.int64"),
        (torch.ones(2, IN, dtype=torch.bool), "expected a float input, got torch.bool"),
        (torch.ones(2, IN, dtype=torch.complex64), "expected a float input, got torch.complex64"),
        (torch.ones(2, IN).to(torch.float8_e4m3fn), "got torch.float8_e4m3fn: use one of float32, bfloat16, "),
    ],
    ids=["wide", "transposed", "scalar", "int", "bool", "complex", "float8"],
)
def test_other_inputs_are_refused_by_a_message_that_names_the_layer(x: Tensor, message: str, scheme: Scheme) -> None:
    layer = quantized_linear(linear(), scheme)
    with pytest.raises(QuantError, match=message) as caught:
        layer(x)
    assert f"in_features={IN}, out_features={OUT}, bias=True, scheme={scheme}" in str(caught.value)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dequantize_gives_a_float_layer_with_the_weight_of_the_codes(dtype: torch.dtype, scheme: Scheme) -> None:
    layer = quantized_linear(linear(dtype=dtype).eval(), scheme)
    back = layer.dequantize()
    assert type(back) is nn.Linear
    assert (back.in_features, back.out_features, back.training) == (IN, OUT, False)
    assert back.bias is layer.bias
    assert back.weight.dtype == dtype
    assert bits(back.weight) == bits(layer.quantized_weight.dequantize())
    assert back.weight.data_ptr() != layer.quantized_weight.codes.data_ptr()


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("shape", [(16, 24), (16, 16)], ids=["oblong", "square"])
def test_conv1d_is_quantized_per_output_and_comes_back_as_conv1d(shape: tuple[int, int], scheme: Scheme) -> None:
    out_features, in_features = shape
    source = Conv1D(out_features, in_features)
    source.weight.data.copy_(normal((in_features, out_features), seed=2))
    layer = quantized_linear(source, scheme)
    twin = nn.Linear(in_features, out_features)
    twin.load_state_dict({"weight": source.weight.t(), "bias": source.bias})
    assert bits(layer.quantized_weight.codes) == bits(quantized_linear(twin, scheme).quantized_weight.codes)
    assert (layer.in_features, layer.out_features) == (in_features, out_features)
    back = layer.dequantize()
    assert type(back) is Conv1D
    assert bits(back.get_parameter("weight").t()) == bits(layer.quantized_weight.dequantize())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_weight_with_nan_or_infinity_is_refused(scheme: Scheme, bad: float) -> None:
    source = linear()
    source.weight.data[3, 4] = bad
    with pytest.raises(QuantError, match=rf"shape \[{OUT}, {IN}\] has 1 NaN or infinite"):
        quantized_linear(source, scheme)


def test_another_kind_of_layer_or_scheme_is_refused() -> None:
    with pytest.raises(
        QuantError, match=r"expected nn.Linear or transformers' Conv1D, got torch.nn.modules.linear.Bilinear"
    ):
        W8A16Linear.from_linear(nn.Bilinear(2, 2, 2))
    with pytest.raises(QuantError, match=r"BlockwiseLinear takes a Blockwise scheme, got W8A16\(\)"):
        BlockwiseLinear.from_linear(linear(), W8A16())  # type: ignore[arg-type]
    with pytest.raises(QuantError, match=r"W8A16Linear takes a W8A16 scheme, got NF4\(.*\)"):
        W8A16Linear.from_linear(linear(), NF4())  # type: ignore[arg-type]
    with pytest.raises(QuantError, match="unknown scheme 'nf4'"):
        BlockwiseLinear.from_linear(linear(), "nf4")  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_a_layer_without_memory_is_given_some(scheme: Scheme) -> None:
    """Nothing can be copied from the meta device: the tensors are new ones, to be loaded into."""
    layer = quantized_linear(linear(), scheme)
    state = copy.deepcopy(layer.state_dict())
    layer.to("meta").to_empty(device="cpu").load_state_dict(state)
    assert {name: bits(part.reshape(-1)) for name, part in layer.state_dict().items()} == {
        name: bits(part.reshape(-1)) for name, part in state.items()
    }


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_repr_shows_sizes_bias_and_scheme(scheme: Scheme) -> None:
    kind = "BlockwiseLinear" if isinstance(scheme, Blockwise) else "W8A16Linear"
    assert repr(quantized_linear(linear(bias=False), scheme)) == (
        f"{kind}(in_features={IN}, out_features={OUT}, bias=False, scheme={scheme})"
    )
