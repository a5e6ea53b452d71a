"""Quantize (on load, in memory), save, load, save again: the same codes by every road, the same bytes in every file,
for every kind of model and choice of layers. Every scheme and dtype: `tests/contract/battery/test_checkpoints.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel

import quant
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from tests.checkpoints import assert_round_trip, config_for, load, quantized_names, save, state
from tests.models import tiny_gpt2, tiny_phi3, tokens
from tests.strategies import scheme_id

MODELS: dict[str, Callable[[], Any]] = {
    "phi3": tiny_phi3,
    "tied": lambda: tiny_phi3(tied=True),
    "gpt2": tiny_gpt2,
}


@pytest.mark.parametrize("scheme", [NF4(32), FP4(128, True)], ids=scheme_id)
def test_other_block_sizes(scheme: Scheme, tmp_path: Path) -> None:
    assert_round_trip(save(tiny_phi3(), tmp_path / "float"), scheme, torch.float32, tmp_path)


@pytest.mark.parametrize("scheme", [W8A16(scale="mse"), NF4(64, True, scale="mse")], ids=scheme_id)
def test_searched_scales(scheme: Scheme, tmp_path: Path) -> None:
    """On load, in memory and from the files, and nothing is searched again where they are loaded."""
    loaded = assert_round_trip(save(tiny_phi3(), tmp_path / "float"), scheme, torch.float32, tmp_path)
    assert state(loaded) != state(quant.quantize(tiny_phi3(), replace(scheme, scale="absmax")))


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=scheme_id)
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model(name: str, scheme: Scheme, tmp_path: Path) -> None:
    loaded = assert_round_trip(save(MODELS[name](), tmp_path / "float"), scheme, torch.float32, tmp_path)
    tied = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert tied == (name != "phi3")
    assert type(loaded.get_output_embeddings()) is nn.Linear


@pytest.mark.parametrize("scheme", [W8A16(), INT4(32)], ids=scheme_id)
def test_the_head_and_chosen_layers(scheme: Scheme, tmp_path: Path) -> None:
    """What was chosen is kept by name, so that a saved model needs no patterns to be loaded."""
    float_folder = save(tiny_phi3(), tmp_path / "float")
    choice: dict[str, Any] = {"include": ["*.down_proj", "lm_head"], "exclude": "model.layers.1.*"}
    on_load = load(float_folder, quantization_config=config_for(scheme, **choice))
    assert quantized_names(on_load) == ["model.layers.0.mlp.down_proj", "lm_head"]
    assert state(on_load) == state(quant.quantize(tiny_phi3(), scheme, **choice))
    loaded = load(save(on_load, tmp_path / "saved"))
    assert state(loaded) == state(on_load)
    report = quant.conversion_report(loaded)
    assert list(report.converted) == quantized_names(on_load)
    assert report.left["model.layers.1.mlp.down_proj"] == "float in the checkpoint"
    assert quant.conversion_report(on_load).left["model.layers.1.mlp.down_proj"] == "excluded"


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("asked", [torch.float32, torch.bfloat16, "auto"], ids=str)
def test_codes_are_those_of_the_weight_in_the_dtype_asked_for(stored: torch.dtype, asked: Any, tmp_path: Path) -> None:
    folder = save(tiny_phi3().to(stored), tmp_path / "float")
    on_load = load(folder, quantization_config=quant.W8A16Config(), dtype=asked)
    rounded = stored if asked == "auto" else asked
    weight = tiny_phi3().to(stored).to(rounded).model.layers[0].mlp.down_proj.weight
    layer = on_load.model.layers[0].mlp.down_proj
    expected = quant.quantize_tensor(weight, W8A16())
    assert torch.equal(layer.weight, expected.stored["weight"])
    assert torch.equal(layer.weight_scale, expected.scales)
    assert (layer.dtype, on_load.lm_head.weight.dtype) == (rounded, rounded)


def test_rounding_first_changes_codes(tmp_path: Path) -> None:
    """So the test above tells the dtypes apart."""
    folder = save(tiny_phi3(), tmp_path / "float")
    float32, bfloat16 = (
        load(folder, quantization_config=quant.W8A16Config(), dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert not torch.equal(float32.model.layers[0].mlp.down_proj.weight, bfloat16.model.layers[0].mlp.down_proj.weight)


def test_a_model_without_head_has_the_names_without_its_prefix(tmp_path: Path) -> None:
    saved = save(quant.quantize(tiny_phi3(), NF4()), tmp_path / "quantized")
    base = AutoModel.from_pretrained(saved)  # its report names the head, which is left over
    assert quantized_names(base) == [name.removeprefix("model.") for name in quantized_names(load(saved))]
    again = load(save(base, tmp_path / "base"), AutoModel)
    assert state(again) == state(base)


def test_one_configuration_loads_several_models(tmp_path: Path) -> None:
    """The names of the first model's layers do not reach the second one."""
    config = quant.NF4Config(exclude="*.down_proj")
    two = load(save(tiny_phi3(), tmp_path / "two"), quantization_config=config)
    one = load(save(tiny_phi3(num_hidden_layers=1), tmp_path / "one"), quantization_config=config)
    assert (len(quantized_names(two)), len(quantized_names(one))) == (6, 3)
    assert config.quantized_modules is None


def test_dequantized_models_are_float_for_transformers_too(tmp_path: Path) -> None:
    loaded = load(save(quant.quantize(tiny_phi3(), W8A16()), tmp_path / "quantized"))
    before = loaded.model.layers[0].mlp.down_proj.quantized_weight.dequantize()
    in_memory: Any = quant.dequantize(quant.quantize(tiny_phi3(), W8A16()))
    for dequantized in (loaded.dequantize(), in_memory):
        assert torch.equal(dequantized.model.layers[0].mlp.down_proj.weight, before)
        assert not dequantized.is_quantized
        again = load(save(dequantized, tmp_path / "float"))
        assert quantized_names(again) == []
        assert state(again) == state(dequantized)


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.bfloat16), (torch.float32, torch.float32)], ids=str)
def test_dequantize_keeps_the_dtype_or_takes_the_one_asked_for(
    dtype: torch.dtype | None, expected: torch.dtype, tmp_path: Path
) -> None:
    """After saving, which leaves a string in config.dtype."""
    model = load(save(tiny_phi3(), tmp_path / "float"), quantization_config=quant.NF4Config(), dtype=torch.bfloat16)
    save(model, tmp_path / "quantized")
    assert {parameter.dtype for parameter in model.dequantize(dtype=dtype).parameters()} == {expected}
    assert model(tokens()).logits.dtype == expected


def test_saving_over_a_larger_checkpoint_leaves_none_of_it(tmp_path: Path) -> None:
    save(tiny_phi3(), tmp_path, max_shard_size="40KB")
    model = quant.quantize(tiny_phi3(), NF4())
    save(model, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert state(load(tmp_path)) == state(model)


def test_saving_reports_the_layers_that_are_there(tmp_path: Path) -> None:
    """Also where layers were put in by hand after `quantize`."""
    model: Any = quant.quantize(tiny_phi3(), NF4(), include="*.down_proj")
    model.lm_head = quant.BlockwiseLinear.from_linear(model.lm_head, NF4())
    loaded = load(save(model, tmp_path))
    assert quantized_names(loaded) == ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj", "lm_head"]
    assert state(loaded) == state(model)
