"""`quant inspect` without its command line: Phi-3-mini's sizes to the byte, and composition before and after."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from quant.errors import QuantError
from quant.inspection import Sizing, inspect_model, size_model
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from quant.sources import PHI_3_MINI, build_for_sizing

LAYERS = [(9216, 3072), (3072, 3072), (16384, 3072), (3072, 8192)] * 32
KEPT = 4 * (2 * 32064 * 3072 + 65 * 3072)
"""Embedding, head and norms of Phi-3-mini in float32."""
ROTARY = 32 * 48 * 4
"""The rotary tables that older transformers kept, one of 48 float32 per layer; newer ones keep one for the model."""


def sized(scheme: str | None, dtype: str = "float32") -> Sizing:
    model, name = build_for_sizing(PHI_3_MINI, dtype)
    return size_model(model, PHI_3_MINI, name, scheme)


@pytest.fixture(scope="module")
def w8a16() -> Sizing:
    return sized("w8a16")


def test_phi_3_mini_in_float32_has_the_published_bytes(w8a16: Sizing) -> None:
    size = w8a16.before.size
    assert size.parameter_bytes == 15_284_318_208 == KEPT + 4 * sum(a * b for a, b in LAYERS)
    assert size.parameter_bytes + ROTARY == 15_284_324_352
    assert size.by_dtype == {"float32": size.total_bytes}
    assert (w8a16.before.linear_layers, w8a16.before.quantized_layers) == (129, 0)


def test_w8a16_gives_the_published_bytes(w8a16: Sizing) -> None:
    assert w8a16.after is not None
    size = w8a16.after.size
    assert size.parameter_bytes == 4_416_745_472 == KEPT + sum(W8A16().storage_bytes(*shape) for shape in LAYERS)
    assert size.parameter_bytes + ROTARY == 4_416_751_616
    assert size.by_dtype["int8"] == 3456 * 2**20
    # What is not int8 is float32: the published figure, rotary tables included.
    assert round((size.parameter_bytes + ROTARY - size.by_dtype["int8"]) / 2**20, 2) == 756.14
    assert (w8a16.after.linear_layers, w8a16.after.quantized_layers) == (129, 128)
    assert w8a16.left == {"lm_head": "output head"}


def test_buffers_are_apart_and_stay(w8a16: Sizing) -> None:
    """What transformers keeps for rotary embeddings: multiples of 48 float32, one for the model or one per layer."""
    assert w8a16.after is not None
    assert 0 < w8a16.before.size.buffer_bytes <= 2 * ROTARY
    assert w8a16.before.size.buffer_bytes % (48 * 4) == 0
    assert w8a16.after.size.buffer_bytes == w8a16.before.size.buffer_bytes


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("nf4", NF4()), ("nf4-dq", NF4(double_quant=True)), ("fp4", FP4()), ("int4", INT4())],
    ids=["nf4", "nf4-dq", "fp4", "int4"],
)
def test_four_bit_sizes_are_the_sums_of_their_layers(name: str, scheme: Scheme) -> None:
    after = sized(name).after
    assert after is not None
    assert after.size.parameter_bytes == KEPT + sum(scheme.storage_bytes(*shape) for shape in LAYERS)
    assert after.quantized_layers == 128


def test_the_full_variant_takes_the_head_too() -> None:
    after = sized("w8a16-full").after
    assert after is not None
    head = (32064, 3072)
    assert after.size.parameter_bytes == KEPT - 4 * math.prod(head) + sum(
        W8A16().storage_bytes(*shape) for shape in [*LAYERS, head]
    )
    assert (after.linear_layers, after.quantized_layers) == (129, 129)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_dtype_halves_the_parameters_and_not_the_buffers(w8a16: Sizing, dtype: str) -> None:
    half = sized(None, dtype)
    assert half.before.size.parameter_bytes == 15_284_318_208 // 2
    assert half.before.size.buffer_bytes == w8a16.before.size.buffer_bytes
    assert (half.dtype, half.after, half.left) == (dtype, None, {})


def test_layer_types_are_counted_most_frequent_first(w8a16: Sizing) -> None:
    before, after = w8a16.before.layer_types, w8a16.after.layer_types if w8a16.after else {}
    assert (before["Linear"], before["Phi3RMSNorm"], before["Embedding"]) == (129, 65, 1)
    assert (after["Linear"], after["W8A16Linear"], after["Phi3RMSNorm"]) == (1, 128, 65)
    assert list(before.values()) == sorted(before.values(), reverse=True)
    assert sum(before.values()) == sum(after.values())


def test_the_first_quantized_layer_is_shown_with_its_tensors(w8a16: Sizing) -> None:
    assert w8a16.after is not None
    assert w8a16.after.example_name == "model.layers.0.self_attn.o_proj"
    assert w8a16.after.example == {"weight": "int8 [9437184]", "weight_scale": "float32 [3072]"}
    assert (w8a16.before.example_name, w8a16.before.example) == (None, {})


def test_inspecting_changes_nothing_and_sizing_quantizes_in_place() -> None:
    model: Any = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4, bias=False))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = inspect_model(model)
    assert inspect_model(model) == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert first.layer_types == {"Linear": 2, "ReLU": 1}
    sizing = size_model(model, "mine", "float32", "nf4")
    assert sizing.before == first
    assert sizing.after == inspect_model(model)
    assert sizing.after is not None
    assert sizing.after.size.total_bytes == NF4().storage_bytes(8, 8) + NF4().storage_bytes(4, 8) + 4 * 8


def test_a_model_that_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(QuantError, match="no linear layers"):
        size_model(nn.Sequential(nn.ReLU()), "mine", "float32", "w8a16")
