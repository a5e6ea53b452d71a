"""Layers that are quantized for a while are back afterwards: the same objects with the same bits, whatever happened."""

from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant import QuantError, conversion_report
from quant.convert import quantized_for_a_while
from quant.modules import QuantizedLinear
from quant.schemes import NF4, W8A16
from tests.checkpoints import quantized_names
from tests.models import Layers, Shared, seeded, snapshot, tiny_phi3


def test_they_are_quantized_within_and_back_afterwards() -> None:
    model = seeded(Layers)
    before, modes = snapshot(model), [module.training for module in model.modules()]
    with quantized_for_a_while(model, {"layers.1": NF4(), "lm_head": W8A16()}) as report:
        assert quantized_names(model) == ["layers.1", "lm_head"]
        assert model.get_submodule("layers.1").scheme == NF4()
        assert report.bytes_after == NF4().storage_bytes(16, 16) + W8A16().storage_bytes(11, 16)
    assert snapshot(model) == before
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(QuantError, match="there is no report"):
        conversion_report(model)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_puts_them_back_too(error: type[BaseException]) -> None:
    model = seeded(Layers)
    before = snapshot(model)

    def fail() -> None:
        with quantized_for_a_while(model, {"layers.0": NF4()}):
            assert quantized_names(model) == ["layers.0"]
            raise error

    with pytest.raises(error):
        fail()
    assert snapshot(model) == before


def test_a_layer_under_two_names_is_back_under_both() -> None:
    model: Any = Shared()
    before = snapshot(model)
    with quantized_for_a_while(model, {"first": W8A16()}):
        assert model.second is model.first
        assert isinstance(model.second, QuantizedLinear)
    assert snapshot(model) == before
    assert model.second is model.first


def test_hooks_run_within_and_afterwards() -> None:
    model: Any = seeded(Layers)
    calls: list[int] = []
    handle = model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    ids = torch.tensor([[1, 2]])
    with quantized_for_a_while(model, {"layers.0": NF4()}):
        model(ids)
    model(ids)
    assert len(calls) == 2
    handle.remove()
    model(ids)
    assert len(calls) == 2


def test_a_layer_that_cannot_be_quantized_leaves_all_as_they_were() -> None:
    model = seeded(Layers)
    model.get_submodule("layers.1").get_parameter("weight").data[0, 0] = torch.nan
    before = snapshot(model)
    with (
        pytest.raises(QuantError, match=r"layers\.1: .*NaN"),
        quantized_for_a_while(model, {"layers.0": NF4(), "layers.1": NF4()}),
    ):
        pytest.fail("went on")
    assert snapshot(model) == before


def test_a_quantized_model_is_refused() -> None:
    model = quant.quantize(seeded(Layers), NF4())
    before = snapshot(model)
    with pytest.raises(QuantError, match="already quantized"), quantized_for_a_while(model, {"lm_head": NF4()}):
        pytest.fail("went on")
    assert snapshot(model) == before


def test_transformers_knows_it_for_quantized_within_and_for_float_afterwards() -> None:
    """Some architectures ask before they read a weight."""
    model: Any = tiny_phi3()
    with quantized_for_a_while(model, {"model.layers.0.mlp.down_proj": W8A16(), "lm_head": NF4()}):
        assert model.config._is_quantized
        assert model.config.quantization_config.method() == "quant-mixed"
    assert not getattr(model.config, "_is_quantized", False)
    assert not hasattr(model, "hf_quantizer") or model.hf_quantizer is None
    assert type(model.lm_head) is nn.Linear
