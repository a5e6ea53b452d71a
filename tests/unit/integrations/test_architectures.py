"""Layers that an architecture or another library uses otherwise than by calling them are left, with the reason."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import quant
from quant.integrations.quantizer import QuantizeWeight
from quant.schemes import NF4, W8A16
from tests.checkpoints import load, save, state
from tests.models import seeded, tiny_phi3, tokens


def tiny_t5() -> Any:
    config = T5Config(
        vocab_size=512, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0, pad_token_id=0
    )
    return seeded(lambda: T5ForConditionalGeneration(config)).eval()


def tiny_roberta() -> Any:
    config = RobertaConfig(
        vocab_size=512, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, num_labels=3
    )
    return seeded(lambda: RobertaForSequenceClassification(config)).eval()


def test_what_an_architecture_keeps_in_float32_is_left(tmp_path: Path) -> None:
    """T5 casts activations to the dtype of `wo.weight`, which must not be that of codes."""
    model: Any = quant.quantize(tiny_t5(), NF4())
    report = quant.conversion_report(model)
    kept = {name: reason for name, reason in report.left.items() if name.endswith(".wo")}
    assert len(kept) == 2
    assert all("keeps it in float32" in reason for reason in kept.values())
    assert model(input_ids=tokens(), decoder_input_ids=tokens()).logits.isfinite().all()
    with pytest.raises(quant.QuantError, match=r"DenseReluDense\.wo cannot be quantized \(.*keeps it in float32\)"):
        quant.quantize(tiny_t5(), NF4(), include="encoder.block.0.layer.1.DenseReluDense.wo")


def test_both_layers_of_a_classification_head_are_heads(tmp_path: Path) -> None:
    model = tiny_roberta()
    quant.quantize(model, W8A16())
    heads = {name for name, reason in quant.conversion_report(model).left.items() if reason == "output head"}
    assert heads == {"classifier.dense", "classifier.out_proj"}
    again = load(save(model, tmp_path), AutoModelForSequenceClassification)
    assert state(again) == state(model)


def test_adapters_are_left_to_be_trained() -> None:
    model = get_peft_model(tiny_phi3(), LoraConfig(r=4, target_modules=["qkv_proj"]))
    quant.quantize(model, NF4())
    report = quant.conversion_report(model)
    adapters = [name for name, module in model.named_modules() if type(module) is nn.Linear and "lora_" in name]
    assert len(adapters) == 4
    assert {report.left[name] for name in adapters} == {"part of an adapter"}
    assert any(name.endswith("qkv_proj.base_layer") for name in report.converted)


def test_a_weight_that_was_split_on_its_way_is_quantized_in_its_parts() -> None:
    """Some checkpoints hold in one tensor what are two in memory; transformers hands both over at once."""
    model: Any = quant.quantize(tiny_phi3().to("meta"), W8A16())
    layer, norm = "model.layers.0.mlp.down_proj", "model.norm.weight"
    weight, other = torch.randn(128, 256), torch.randn(128)
    found: set[str] = set()
    converted = QuantizeWeight([], found).convert({f"{layer}.weight": [weight], norm: [other]}, model=model)
    expected = quant.quantize_tensor(weight, W8A16()).stored
    assert set(converted) == found == {f"{layer}.weight", f"{layer}.weight_scale", norm}
    assert torch.equal(converted[f"{layer}.weight"], expected["weight"])
    assert converted[norm] is other
