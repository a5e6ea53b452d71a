"""`quantize` and `dequantize` on small modules: what is replaced and what is left, sharing, hooks, the report."""

import copy

import pytest
import torch
from torch import Tensor, nn

import quant
from quant import NF4, W8A16, BlockwiseLinear, QuantError, W8A16Linear, conversion_report, convert
from quant.modules import QuantizedLinear
from quant.schemes import Blockwise, Scheme
from tests import measured
from tests.models import Layers, Shared, seeded, snapshot
from tests.strategies import SCHEMES, bits, normal, scheme_id


def build(count: int = 2) -> Layers:
    return seeded(lambda: Layers(count))


def types(model: nn.Module) -> dict[str, str]:
    return {name: type(module).__name__ for name, module in model.named_modules()}


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_chosen_layers_are_replaced_in_place_and_nothing_else_is_touched(scheme: Scheme) -> None:
    model = build(12)
    before = copy.deepcopy(model)
    others = {name: id(module) for name, module in model.named_modules() if not name.startswith("layers.")}
    assert quant.quantize(model, scheme) is model
    expected = "BlockwiseLinear" if isinstance(scheme, Blockwise) else "W8A16Linear"
    assert types(model) == {
        name: expected if name.startswith("layers.") else kind for name, kind in types(before).items()
    }
    assert {name: id(module) for name, module in model.named_modules() if name in others} == others
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, QuantizedLinear)
        quantized = quant.quantize_tensor(before.get_parameter(f"layers.{index}.weight"), scheme)
        assert bits(layer.quantized_weight.codes) == bits(quantized.codes)
        assert bits(layer.get_parameter("bias")) == bits(before.get_parameter(f"layers.{index}.bias"))
    for name in ("embed.weight", "lm_head.weight"):
        assert bits(model.get_parameter(name)) == bits(before.get_parameter(name))


@pytest.mark.parametrize("scheme", measured.EFFECTS["layers"])
def test_weights_on_the_grid_of_the_format_give_the_model_s_own_output(scheme: str) -> None:
    """Weights that were dequantized once are quantized without loss; weights off the grid are not."""
    model = quant.dequantize(quant.quantize(build(), measured.SCHEMES[scheme]))
    before, original = measured.logits(model), measured.logits(build())
    after = measured.logits(quant.quantize(model, measured.SCHEMES[scheme]))
    assert after.shape == (1, 11, 11)
    allowed = measured.EFFECTS["layers"]["w8a16"] * measured.SAME_WEIGHTS_SHARE
    assert (after - before).abs().max().item() <= allowed
    effect = (after - original).abs().max().item()
    assert effect == pytest.approx(measured.EFFECTS["layers"][scheme], rel=measured.EFFECT_TOLERANCE)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_dequantize_restores_the_types_and_the_values_of_the_codes(scheme: Scheme) -> None:
    model = build()
    kinds, keys = types(model), set(model.state_dict())
    expected = quant.quantize_tensor(model.get_parameter("layers.0.weight"), scheme).dequantize()
    quant.quantize(model, scheme)
    assert quant.dequantize(model) is model
    assert types(model) == kinds
    assert set(model.state_dict()) == keys
    assert bits(model.get_parameter("layers.0.weight")) == bits(expected)
    assert type(quant.quantize(model, scheme).get_submodule("layers.0")) is not nn.Linear


@pytest.mark.parametrize(
    "frozen", [("layers.0.weight", "layers.1.bias"), ("layers.0.bias", "layers.1.weight")], ids=str
)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_what_was_frozen_stays_frozen_through_both_conversions(scheme: Scheme, frozen: tuple[str, ...]) -> None:
    model = build()
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    quant.quantize(model, scheme)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()}.items() <= before.items()
    restored = copy.deepcopy(model)
    for converted in (model, restored):
        quant.dequantize(converted)
        assert {name: parameter.requires_grad for name, parameter in converted.named_parameters()} == before


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_report_counts_layers_and_bytes(scheme: Scheme) -> None:
    report = conversion_report(quant.quantize(build(), scheme, exclude="layers.1"))
    assert (report.scheme, report.converted) == (scheme, ("layers.0",))
    assert report.left == {"layers.1": "excluded", "lm_head": "output head"}
    assert (report.bytes_before, report.bytes_after) == (1024, scheme.storage_bytes(16, 16))
    assert str(report).splitlines() == [
        f"1 of 3 linear layers converted to {scheme}: 1,024 -> {scheme.storage_bytes(16, 16)} bytes",
        "  left layers.1: excluded",
        "  left lm_head: output head",
    ]


def test_a_model_without_conversion_has_no_report() -> None:
    model = build()
    with pytest.raises(QuantError, match=r"Layers was not quantized by quant\.quantize"):
        conversion_report(model)
    quant.dequantize(quant.quantize(model, W8A16()))
    with pytest.raises(QuantError, match="so there is no report"):
        conversion_report(model)


def test_the_report_is_no_part_of_the_state() -> None:
    model = quant.quantize(build(), W8A16())
    assert all(isinstance(value, Tensor) for value in model.state_dict().values())
    assert not any("report" in name for name in model.state_dict())


def test_include_and_exclude_reach_the_selection() -> None:
    assert conversion_report(
        quant.quantize(build(4), NF4(), include="layers.[12]", exclude=["layers.2"])
    ).converted == ("layers.1",)
    assert type(quant.quantize(build(), NF4(), include=["*", "lm_head"]).get_submodule("lm_head")) is BlockwiseLinear


def test_a_layer_under_two_names_is_quantized_once_and_stays_one() -> None:
    model = quant.quantize(seeded(Shared), W8A16())
    assert model.get_submodule("first") is model.get_submodule("second")
    assert type(model.get_submodule("second")) is W8A16Linear
    assert conversion_report(model).converted == ("first",)
    assert conversion_report(model).bytes_before == 4 * 64
    quant.dequantize(model)
    assert model.get_submodule("first") is model.get_submodule("second")
    assert type(model.get_submodule("second")) is nn.Linear


def test_a_tied_weight_stays_tied_and_unchanged() -> None:
    model = seeded(Shared)
    pointer, before = model.embedding.weight.data_ptr(), bits(model.embedding.weight)
    quant.quantize(model, W8A16())
    assert model.tied.weight is model.embedding.weight
    assert model.tied.weight.data_ptr() == pointer
    assert bits(model.embedding.weight) == before


def test_forward_hooks_move_both_ways_and_their_handles_still_remove_them() -> None:
    model = build()
    seen: list[str] = []
    handles = [
        model.layers[0].register_forward_hook(lambda module, args, output: seen.append(type(module).__name__)),
        model.layers[0].register_forward_pre_hook(lambda module, args: seen.append("before")),
    ]
    ids = torch.arange(3)[None]
    quant.quantize(model, W8A16())(ids)
    assert seen == ["before", "W8A16Linear"]
    seen.clear()
    quant.dequantize(model)(ids)
    assert seen == ["before", "Linear"]
    for handle in handles:
        handle.remove()
    seen.clear()
    model(ids)
    assert seen == []


def test_full_backward_hooks_move() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    seen: list[str] = []
    model[0].register_full_backward_hook(lambda module, grad_in, grad_out: seen.append(type(module).__name__))
    quant.quantize(model, W8A16())
    model(normal((2, 4)).requires_grad_()).sum().backward()
    assert seen == ["W8A16Linear"]


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_an_encoder_whose_fast_path_reads_its_weights_runs_as_before(scheme: Scheme) -> None:
    """In evaluation without gradients torch's encoder layer hands the weights of its layers to one fused function."""

    def build_encoder() -> nn.Module:
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        return nn.Sequential(nn.Linear(16, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))

    model, x = seeded(build_encoder).eval(), normal((2, 3, 16))
    quant.quantize(model, scheme)
    reason = "TransformerEncoderLayer reads its weight instead of calling it"
    left = conversion_report(model).left
    assert [left[f"1.layers.{layer}.linear{index}"] for layer in (0, 1) for index in (1, 2)] == [reason] * 4
    assert all("NonDynamicallyQuantizableLinear" in left[f"1.layers.{layer}.self_attn.out_proj"] for layer in (0, 1))
    expected = model(x)
    with torch.no_grad():
        # The fused function adds in another order: float32 sums of at most 32 terms of about one.
        assert (model(x) - expected).abs().max().item() <= 1e-5


def test_two_models_in_a_row_do_not_influence_each_other() -> None:
    first = quant.quantize(build(), NF4(32), include="layers.0")
    second = quant.quantize(build(), W8A16())
    assert conversion_report(first).converted == ("layers.0",)
    assert conversion_report(second).converted == ("layers.0", "layers.1")
    alone = quant.quantize(build(), W8A16())
    assert snapshot(second)[1] == snapshot(alone)[1]


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_model_on_meta_is_converted_without_values(scheme: Scheme) -> None:
    model = quant.quantize(build().to("meta"), scheme)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    real = quant.quantize(build(), scheme)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
        name: tensor.shape for name, tensor in real.state_dict().items()
    }
    assert conversion_report(model) == conversion_report(real)


def test_the_bytes_of_a_report_are_those_of_all_its_layers() -> None:
    report = conversion_report(quant.quantize(build(), W8A16()))
    assert report.converted == ("layers.0", "layers.1")
    assert (report.bytes_before, report.bytes_after) == (2 * 4 * 256, 2 * W8A16().storage_bytes(16, 16))


def test_a_part_that_was_quantized_is_dequantized_with_the_whole() -> None:
    """The whole has no report of its own to forget."""
    model = build()
    quant.quantize(model.layers, W8A16())
    assert quant.dequantize(model) is model
    assert {type(layer) for layer in model.layers} == {nn.Linear}


def test_observers_are_told_with_the_new_layers_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[nn.Module]] = []
    monkeypatch.setattr(convert, "_observers", [lambda model: seen.append(type(model.layers[0]))])
    quant.dequantize(quant.quantize(build(), W8A16()))
    assert seen == [W8A16Linear, nn.Linear]


def test_an_observer_is_told_once_of_each_conversion_however_often_it_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_observers", [])
    told: list[nn.Module] = []
    observer = told.append
    for _ in range(2):
        convert.observe_conversions(observer)
    model = build()
    quant.quantize(model, W8A16())
    assert told == [model]
    quant.dequantize(model)
    assert told == [model, model]
