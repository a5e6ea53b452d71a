"""A plan held to a model: every linear layer is named, and what cannot be quantized is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import quant
from quant import MixedPrecision, QuantError, conversion_report
from quant.assignment import assign
from quant.modules import QuantizedLinear
from quant.schemes import INT4, NF4, W8A16, Scheme
from tests.models import Layers, Shared, seeded, snapshot, tiny_phi3

Plan = dict[str, Scheme | None]
WHOLE: Plan = {"layers.1": NF4(32), "lm_head": W8A16(), "layers.0": None}


def build() -> nn.Module:
    return seeded(Layers)


class Subclass(nn.Linear):
    """Whose forward may be another one."""


def with_subclass() -> nn.Module:
    return nn.Sequential(seeded(lambda: nn.Linear(8, 8)), Subclass(8, 8))


def test_each_layer_gets_what_the_plan_says_in_model_order() -> None:
    model = quant.quantize(build(), MixedPrecision(WHOLE))
    found = {name: m.scheme for name, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    assert found == {"layers.1": NF4(32), "lm_head": W8A16()}
    report = conversion_report(model)
    assert list(report.schemes) == ["layers.1", "lm_head"]
    assert (report.schemes, report.scheme) == (found, None)
    assert report.left == {"layers.0": "float in the plan"}
    assert report.bytes_after == NF4(32).storage_bytes(16, 16) + W8A16().storage_bytes(11, 16)
    assert "2 of 3 linear layers converted to 1 NF4(block_size=32, double_quant=False), 1 W8A16()" in str(report)


@pytest.mark.parametrize("as_text", [str, Path], ids=["str", "Path"])
def test_a_plan_is_read_from_its_file(as_text: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(MixedPrecision(WHOLE).to_json(), encoding="utf-8")
    assert (
        snapshot(quant.quantize(build(), as_text(path)))[1]
        == snapshot(quant.quantize(build(), MixedPrecision(WHOLE)))[1]
    )


def test_any_name_of_a_shared_layer_names_it() -> None:
    for name in ("first", "second"):
        assert assign(Shared(), MixedPrecision({name: NF4(), "tied": None})).schemes == {"first": NF4()}


def test_a_layer_that_cannot_be_read_may_be_left_out_or_null() -> None:
    for plan in ({"0": NF4()}, {"0": NF4(), "1": None}):
        assignment = assign(with_subclass(), MixedPrecision(plan))
        assert list(assignment.schemes) == ["0"]
        assert assignment.left["1"].startswith("subclass of nn.Linear")


REFUSED: dict[str, tuple[Callable[[], nn.Module], Plan, str]] = {
    "a layer that the model lacks": (
        build,
        {**WHOLE, "layer.1": None},
        r"Layers has no linear layer 'layer\.1' that the plan names, did you mean 'layers\.1'\?",
    ),
    "a module that is no linear layer": (build, {**WHOLE, "embed": None}, "has no linear layer 'embed'"),
    "a layer that is left out": (
        build,
        {name: scheme for name, scheme in WHOLE.items() if name != "layers.0"},
        r"the plan leaves out layers\.0, a linear layer of Layers: give it a scheme, or null to keep it float",
    ),
    "a tied head": (
        lambda: tiny_phi3(tied=True, num_hidden_layers=1),
        {
            **{f"model.layers.0.self_attn.{name}": NF4() for name in ("qkv_proj", "o_proj")},
            **{f"model.layers.0.mlp.{name}": NF4() for name in ("gate_up_proj", "down_proj")},
            "lm_head": W8A16(),
        },
        r"lm_head cannot be quantized \(weight shared with model\.embed_tokens\): give it null in the plan",
    ),
    "a subclass": (with_subclass, {"0": NF4(), "1": NF4()}, r"1 cannot be quantized \(subclass of nn\.Linear"),
    "one layer twice": (Shared, {"first": NF4(), "second": INT4(), "tied": None}, "first and second are one layer"),
    "nothing but null": (build, dict.fromkeys(WHOLE), "nothing to quantize: every layer of the plan is null"),
}


@pytest.mark.parametrize(("make", "plan", "message"), REFUSED.values(), ids=REFUSED)
def test_a_plan_that_does_not_fit_is_refused_before_anything_is_changed(
    make: Callable[[], nn.Module], plan: Plan, message: str
) -> None:
    model = make()
    before = snapshot(model)
    with pytest.raises(QuantError, match=message):
        quant.quantize(model, MixedPrecision(plan))
    assert snapshot(model) == before


@pytest.mark.parametrize("choice", [{"include": "*"}, {"exclude": "layers.0"}], ids=str)
def test_patterns_beside_a_plan_are_refused(choice: dict[str, str]) -> None:
    with pytest.raises(QuantError, match="a plan names every layer, include and exclude choose them: pass one"):
        quant.quantize(build(), MixedPrecision(WHOLE), **choice)


def test_a_name_of_a_scheme_is_no_file() -> None:
    with pytest.raises(QuantError, match=r"unknown scheme 'nf4': pass quant\.W8A16\(\)"):
        quant.quantize(build(), "nf4")
