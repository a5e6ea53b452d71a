"""Loading a `state_dict()` into a layer gives the layer it was taken from, and what does not fit is refused by name."""

import itertools

import pytest
from torch import nn

from quant import FP4, INT4, NF4, W8A16
from quant.schemes import Blockwise, Scheme
from tests.contract.battery.layers import IN, OUT, empty, quantized, state_bits
from tests.strategies import ALL_SCHEMES, SCHEMES, bits, normal, scheme_id


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


def test_loading_by_assignment_takes_the_tensors_themselves(scheme: Scheme) -> None:
    layer = quantized(scheme)
    fresh = empty(scheme).to("meta")
    fresh.load_state_dict(layer.state_dict(), assign=True)
    assert fresh.quantized_weight.codes.data_ptr() == layer.quantized_weight.codes.data_ptr()
    assert state_bits(fresh) == state_bits(layer)


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
