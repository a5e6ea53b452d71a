"""Each layer measured alone: the one that was made sensitive ranks first, every figure is that of quantizing just it,
and the model is the same afterwards.
"""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant import QuantError
from quant.evaluate import statistics
from quant.evaluate.divergence import Baseline
from quant.evaluate.paired import paired_accuracy
from quant.evaluate.windows import TokenWindows
from quant.modules import QuantizedLinear
from quant.schemes import NF4, W8A16
from quant.sensitivity import BROKEN, kept_baseline, kinds_of, measure_sensitivities, scheme_labels
from tests.models import VOCAB_SIZE, snapshot, tiny_phi3, tokens

WINDOWS = TokenWindows(tokens(1, 25 * 4 + 1)[0], 4)
OUTLIER = 100.0
PLANTED = {
    f"model.layers.0.{name}": f"model.layers.0.{norm}"
    for name, norm in (("self_attn.qkv_proj", "input_layernorm"), ("mlp.gate_up_proj", "post_attention_layernorm"))
}
"""Layers, and the norms that they read."""
pytestmark = pytest.mark.usefixtures("single_threaded")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bootstrap: the intervals' ends are its own tests' business."""
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


def build() -> Any:
    model = tiny_phi3(hidden_size=64, intermediate_size=128, num_hidden_layers=1)
    model.lm_head.weight.data.mul_(20)  # random weights predict nearly uniformly
    return model


@pytest.mark.parametrize(("name", "norm"), PLANTED.items(), ids=PLANTED)
def test_the_layer_that_was_made_sensitive_ranks_first(name: str, norm: str) -> None:
    """By one outlier in each of its blocks, for an input that is always 0: the float model does not notice, and the
    other 63 weights of the block lose all levels but the one for 0. Measured: its divergence grows 113 and 62 times,
    and without the outliers the second of the two ranks third.
    """
    model = build()
    before = measure_sensitivities("tiny", model, kept_baseline(model, WINDOWS), [NF4()], include=[name])
    model.get_submodule(norm).weight.data[0] = 0
    model.get_submodule(name).weight.data[:, 0] = OUTLIER
    measured = measure_sensitivities("tiny", model, kept_baseline(model, WINDOWS), [NF4()])
    values = [one.accuracy.kl.value for one in measured.layers]
    assert measured.layers[0].name == name
    assert values[0] > 30 * before.layers[0].accuracy.kl.value
    assert values == sorted(values, reverse=True)
    assert len(values) == 4


def test_every_figure_is_that_of_the_model_with_these_layers_quantized() -> None:
    model = build()
    before = snapshot(model)
    seen: list[tuple[str, int, int]] = []
    choice: dict[str, Any] = {"include": ["*.o_proj", "*.down_proj", "lm_head"]}
    schemes = [NF4(), W8A16()]
    measured = measure_sensitivities(
        "tiny", model, kept_baseline(model, WINDOWS), schemes, **choice, watch=lambda *step: seen.append(step)
    )
    assert snapshot(model) == before
    names = ["model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj", "lm_head"]
    assert [one.scheme for one in measured.layers] == [NF4()] * 3 + [W8A16()] * 3
    assert sorted(one.name for one in measured.layers) == sorted(names * 2)
    assert [(one.name, one.layers) for one in measured.kinds] == [("all layers", tuple(names))] * 2
    assert measured.left["model.layers.0.self_attn.qkv_proj"] == "not included"
    assert (seen[0], seen[-1]) == (("nf4: model.layers.0.self_attn.o_proj", 0, 8), ("done", 8, 8))

    baseline = Baseline(build(), WINDOWS)
    assert measured.environment == baseline.measurement.fingerprint
    for one in (*measured.layers, *measured.kinds):
        alone = quant.quantize(build(), one.scheme, include=list(one.layers))
        report = quant.conversion_report(alone)
        assert (one.bytes_before, one.bytes_after) == (report.bytes_before, report.bytes_after)
        assert one.accuracy == paired_accuracy(baseline.measurement, baseline.compare(alone))
        assert one.loss_increase == pytest.approx(
            float((baseline.compare(alone).losses - baseline.losses).mean()), rel=1e-9, abs=1e-12
        )


def test_an_interrupted_measurement_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    before, baseline = snapshot(model), kept_baseline(model, WINDOWS)
    calls: Iterator[int] = iter(range(3))

    def interrupted(*_: object) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return baseline.measurement

    monkeypatch.setattr(baseline, "compare", interrupted)
    monkeypatch.setattr("quant.sensitivity.paired_accuracy", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        measure_sensitivities("tiny", model, baseline, [NF4()])
    assert snapshot(model) == before


def test_logits_that_do_not_fit_are_refused_before_and_where_the_model_does_not_say_after_a_run() -> None:
    """The baseline would run the model again, with the layers that are being measured."""
    per_token = 4 * VOCAB_SIZE
    with pytest.raises(QuantError, match=r"logits of 100 tokens take 204,800 bytes, .*: use --max-tokens 50 or less"):
        kept_baseline(build(), WINDOWS, limit_bytes=50 * per_token + 1)
    assert not kept_baseline(build(), WINDOWS, limit_bytes=100 * per_token).keeps_model

    class Silent(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Any) -> Any:
            return self.model(**inputs)

    with pytest.raises(QuantError, match="more than 1,000 bytes: use fewer"):
        kept_baseline(Silent(build()), WINDOWS, limit_bytes=1000)


def test_schemes_are_called_by_their_name_unless_several_have_it() -> None:
    assert scheme_labels([NF4(), W8A16(), NF4()]) == {NF4(): "nf4", W8A16(): "w8a16"}
    schemes = [NF4(), NF4(32), W8A16(), W8A16(scale="mse")]
    assert list(scheme_labels(schemes).values()) == [
        "nf4 block_size=64",
        "nf4 block_size=32",
        "w8a16",
        "w8a16 scale=mse",
    ]


def test_a_token_that_the_float_model_holds_for_impossible_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    target = int(WINDOWS.ids[7])
    forward = type(model).forward

    def masked(*arguments: Any, **inputs: Any) -> Any:
        found = forward(*arguments, **inputs)
        found.logits[..., target] = -torch.inf
        return found

    monkeypatch.setattr(type(model), "forward", masked)
    count = int((WINDOWS.ids[1:] == target).sum())
    first = int((WINDOWS.ids[1:] == target).nonzero()[0]) + 1
    told = f"the float model gives {count} of 100 tokens probability 0, the first is token {first}, id {target}: "
    with pytest.raises(QuantError, match=told):
        kept_baseline(model, WINDOWS)


def test_a_layer_that_breaks_the_model_is_recorded_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scales are infinite once it is quantized."""
    model, broken = build(), "model.layers.0.mlp.down_proj"
    before, baseline = snapshot(model), kept_baseline(model, WINDOWS)
    compare = baseline.compare

    def breaking(model: Any) -> Any:
        layer = model.get_submodule(broken)
        if isinstance(layer, QuantizedLinear):
            layer.register_forward_hook(lambda module, inputs, output: output * torch.inf)
        return compare(model)

    monkeypatch.setattr(baseline, "compare", breaking)
    measured = measure_sensitivities("tiny", model, baseline, [W8A16()])
    assert (measured.layers[0].name, measured.layers[0].accuracy) == (broken, BROKEN)
    assert measured.layers[0].loss_increase == math.inf
    assert all(one.accuracy.kl.value < 1 for one in measured.layers[1:])
    assert measured.kinds[0].accuracy == BROKEN
    assert snapshot(model) == before


def test_kinds_are_layers_of_one_name_within_their_blocks() -> None:
    blocks = [f"model.layers.{index}.mlp.{name}" for index in (0, 1) for name in ("up", "down")]
    assert kinds_of([*blocks, "lm_head"]) == {
        "mlp.up": (blocks[0], blocks[2]),
        "mlp.down": (blocks[1], blocks[3]),
        "all layers": (*blocks, "lm_head"),
    }
    assert kinds_of(["layers.0", "layers.1"]) == {"all layers": ("layers.0", "layers.1")}
    assert kinds_of(["0", "1.2"]) == {"all layers": ("0", "1.2")}
    assert kinds_of(["lm_head"]) == {}


def test_a_quantized_model_is_refused() -> None:
    model = build()
    baseline = kept_baseline(model, WINDOWS)
    with pytest.raises(QuantError, match="already quantized"):
        measure_sensitivities("tiny", quant.quantize(model, NF4(), include="*.o_proj"), baseline, [NF4()])


def test_a_pattern_without_a_layer_is_refused() -> None:
    model = build()
    with pytest.raises(QuantError, match="matches no linear layer"):
        measure_sensitivities("tiny", model, kept_baseline(model, WINDOWS), [NF4()], include=["*.gate"])
