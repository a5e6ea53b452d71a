"""SQNR of a layer's weight: against sums written out, and against the codes that a model holds, not others."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from quant import quantize
from quant.checkpoint.folder import open_checkpoint
from quant.checkpoint.reading import Inputs
from quant.evaluate.weight_error import layer_sqnr, sqnr
from quant.integrations.transformers import load_model
from quant.modules import QuantizedLinear
from quant.schemes import NF4, W8A16, Scheme
from tests.fakes import ROUNDING
from tests.models import tiny_phi3


def decibels(reference: torch.Tensor, restored: torch.Tensor) -> float:
    """By sums over the elements."""
    pairs = list(zip(reference.double().flatten().tolist(), restored.double().flatten().tolist(), strict=True))
    return 10 * math.log10(math.fsum(w * w for w, _ in pairs) / math.fsum((w - r) ** 2 for w, r in pairs))


TOLERANCE = 1e-6
"""dB. The difference is rounded to float32, by 6e-8 of itself, which moves the ratio of the sums by 1.2e-7 at most:
10 log10(1 + 1.2e-7) is 5e-7. The double sums are far closer.
"""


def test_hand_computed_ratios() -> None:
    reference = torch.tensor([[3.0, 4.0]])
    assert sqnr(reference, torch.tensor([[3.0, 4.5]])) == pytest.approx(20.0, abs=100 * ROUNDING)  # 25 / 0.25
    assert sqnr(reference, torch.tensor([[3.0, -1.0]])) == pytest.approx(0.0, abs=100 * ROUNDING)  # 25 / 25
    assert sqnr(reference, reference) == math.inf
    assert sqnr(torch.zeros(2), torch.ones(2)) == -math.inf
    assert sqnr(torch.zeros(2), torch.zeros(2)) == math.inf


def saved(folder: Path, model: Any) -> Any:
    """`model`, saved into `folder`."""
    model.save_pretrained(folder)
    return model


def measured(model: Any, folder: Path) -> dict[str, float]:
    with Inputs(open_checkpoint(folder)) as checkpoint:
        return layer_sqnr(model, checkpoint)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=["w8a16", "nf4"])
def test_every_quantized_layer_against_the_checkpoint(tmp_path: Path, scheme: Scheme, dtype: torch.dtype) -> None:
    """Against the weight in the dtype that it was quantized from: its rounding is no error of the scheme."""
    weights = saved(tmp_path, tiny_phi3()).state_dict()
    model = quantize(load_model(tmp_path, dtype), scheme)
    found = measured(model, tmp_path)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    assert list(found) == list(layers)
    assert len(found) == 8
    for name, module in layers.items():
        restored = module.quantized_weight.dequantize(torch.float32)
        assert found[name] == pytest.approx(decibels(weights[f"{name}.weight"].to(dtype), restored), abs=TOLERANCE)


def test_a_transposed_weight_and_a_checkpoint_of_the_base_model(tmp_path: Path) -> None:
    """GPT-2 as it is on the hub: Conv1D, and names without `transformer.`."""
    model = saved(tmp_path, GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=50, n_positions=16)))
    path = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize(model, W8A16())
    found = measured(model, tmp_path)
    assert len(found) == 4
    for name, value in found.items():
        restored = model.get_submodule(name).quantized_weight.dequantize(torch.float32)
        assert value == pytest.approx(decibels(weights[f"{name}.weight"].t(), restored), abs=TOLERANCE)


def test_a_fault_in_the_codes_shows_in_its_layer_alone(tmp_path: Path) -> None:
    """It is the model's own codes that are measured."""
    model = quantize(saved(tmp_path, tiny_phi3()), W8A16())
    before = measured(model, tmp_path)
    name = "model.layers.1.mlp.down_proj"
    model.get_submodule(name).get_buffer("weight_scale")[0] *= 2
    after = measured(model, tmp_path)
    assert before[name] - after[name] > 10
    assert {**before, name: 0} == {**after, name: 0}


def test_what_cannot_be_compared_is_left_out(tmp_path: Path) -> None:
    model = quantize(saved(tmp_path, tiny_phi3()), W8A16())
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["renamed"] = tensors.pop("model.layers.0.mlp.down_proj.weight")
    tensors["model.layers.0.self_attn.o_proj.weight"] = torch.zeros(3, 5)
    tensors["model.layers.1.self_attn.o_proj.weight"] = torch.zeros(8, dtype=torch.int8)
    save_file(tensors, path, metadata={"format": "pt"})
    module = model.get_submodule("model.layers.1.mlp.down_proj")
    module.weight = module.weight.to("meta")  # as accelerate does with what is on disk
    left = {"model.layers.0.mlp.down_proj", "model.layers.0.self_attn.o_proj"}
    left |= {"model.layers.1.self_attn.o_proj", "model.layers.1.mlp.down_proj"}
    names = {name for name, layer in model.named_modules() if isinstance(layer, QuantizedLinear)}
    assert set(measured(model, tmp_path)) == names - left
