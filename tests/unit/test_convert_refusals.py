"""What `quantize` and `dequantize` refuse, by which message, and that the model is then what it was."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import quant
from quant import NF4, W8A16, QuantError, W8A16Linear, conversion_report
from quant.schemes import Scheme
from tests.models import Layers, seeded, snapshot
from tests.strategies import SCHEMES, scheme_id


def build(count: int = 2) -> Layers:
    return seeded(lambda: Layers(count))


@pytest.mark.parametrize("again", [W8A16(), NF4()], ids=scheme_id)
def test_quantizing_twice_is_refused_and_changes_nothing(again: Scheme) -> None:
    model = quant.quantize(build(), W8A16())
    before, report = snapshot(model), conversion_report(model)
    with pytest.raises(QuantError, match=r"layers\.0 is already quantized \(W8A16\(\)\): call quant.dequantize first"):
        quant.quantize(model, again)
    assert snapshot(model) == before
    assert conversion_report(model) is report


def test_models_of_other_quantizers_are_refused() -> None:
    model = build()
    vars(model).update(is_quantized=True, quantization_method="gptq")
    with pytest.raises(QuantError, match=r"Layers is already quantized \(gptq\): load the float model instead"):
        quant.quantize(model, W8A16())
    foreign = type("Linear4bit", (nn.Linear,), {"__module__": "bitsandbytes.nn.modules"})
    with pytest.raises(QuantError, match="0 is quantized by bitsandbytes"):
        quant.quantize(nn.Sequential(foreign(2, 2), nn.Linear(2, 2)), W8A16())


def poisoned() -> nn.Module:
    model = build()
    model.get_parameter("layers.1.weight").data[3, 4] = math.nan
    return model


def offloaded() -> nn.Module:
    model = build()
    vars(model.get_submodule("layers.1"))["forward"] = torch.relu
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (poisoned, r"^layers\.1: weight of shape \[16, 16\] has 1 NaN"),
        (offloaded, r"^layers\.1: its forward was replaced"),
        (lambda: nn.Linear(2, 2), "is itself one linear layer"),
        (lambda: nn.Sequential(nn.ReLU()), "has no linear layers"),
    ],
    ids=["nan", "offloaded", "bare layer", "no layers"],
)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_refusal_leaves_the_model_as_it_was(scheme: Scheme, make: Callable[[], nn.Module], message: str) -> None:
    model = make()
    before = snapshot(model)
    with pytest.raises(QuantError, match=message):
        quant.quantize(model, scheme)
    assert snapshot(model) == before
    assert "_quant_report" not in vars(model)


def test_an_interruption_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(3)
    calls: list[nn.Module] = []
    before = snapshot(model)

    def interrupted(layer: nn.Module, scheme: W8A16 | None = None) -> W8A16Linear:
        calls.append(layer)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return from_linear(layer, scheme)

    from_linear = W8A16Linear.from_linear
    monkeypatch.setattr(W8A16Linear, "from_linear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quant.quantize(model, W8A16())
    assert len(calls) == 3
    assert snapshot(model) == before


@pytest.mark.parametrize("scheme", [W8A16, "w8a16", None], ids=str)
def test_what_is_no_scheme_is_refused(scheme: object) -> None:
    with pytest.raises(QuantError, match="unknown scheme"):
        quant.quantize(build(), scheme)  # type: ignore[arg-type]


def test_dequantize_refuses_float_models_and_bare_layers() -> None:
    with pytest.raises(QuantError, match="Layers has no layers quantized by this library"):
        quant.dequantize(build())
    with pytest.raises(QuantError, match=r"itself a quantized layer: call its dequantize\(\)"):
        quant.dequantize(W8A16Linear.from_linear(nn.Linear(2, 2)))


def test_a_model_quantized_by_who_knows_what_is_refused() -> None:
    model = Layers()
    vars(model)["is_quantized"] = True
    with pytest.raises(QuantError, match=r"Layers is already quantized \(another method\): load the float model"):
        quant.quantize(model, W8A16())


def test_a_layer_that_is_offloaded_is_named_when_it_cannot_be_dequantized() -> None:
    model = quant.quantize(Layers(), W8A16())
    layer = model.get_submodule("layers.1")
    vars(layer)["forward"] = layer.forward
    before = snapshot(model)
    with pytest.raises(QuantError, match=r"^layers\.1: its forward was replaced"):
        quant.dequantize(model)
    assert snapshot(model) == before


def test_a_quantized_layer_by_itself_is_refused_by_its_type() -> None:
    layer = W8A16Linear.from_linear(torch.nn.Linear(4, 4))
    with pytest.raises(QuantError, match=r"^W8A16Linear is already quantized"):
        quant.quantize(layer, W8A16())
