"""LoRA on a frozen quantized base: checkpointing, adapters on disk, Conv1D, and what is refused. What holds for every
scheme: `tests/contract/battery/test_adapters.py`.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

import quant
from quant.errors import QuantError
from quant.integrations.peft import for_quantized_layers
from quant.schemes import NF4, W8A16
from tests.adapters import base, config, with_values
from tests.checkpoints import logits
from tests.models import tiny_gpt2, tiny_phi3, tokens

# What users still call, and whose end transformers announces.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")


def test_checkpointing_changes_no_gradient() -> None:
    """The activations are computed again, in integers and so to the same bits."""
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(1)  # of A
        model = with_values(get_peft_model(base(NF4()), config()))
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        model.train()
        model(tokens(), labels=tokens(), use_cache=False).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("cast_up", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_an_adapter_has_the_dtype_that_it_has_on_the_float_layer(dtype: torch.dtype, cast_up: bool) -> None:
    def adapted(model: Any) -> dict[str, torch.dtype]:
        adapted = get_peft_model(model, config(), autocast_adapter_dtype=cast_up)
        return {name: parameter.dtype for name, parameter in adapted.named_parameters() if "lora" in name}

    dtypes = adapted(quant.quantize(tiny_phi3().to(dtype), NF4()))
    assert dtypes == adapted(tiny_phi3().to(dtype))
    assert set(dtypes.values()) == {torch.float32 if cast_up else dtype}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_saved_adapter_loads_onto_another_quantized_base(dtype: torch.dtype, tmp_path: Path) -> None:
    model = with_values(get_peft_model(quant.quantize(tiny_phi3().to(dtype), NF4()), config())).eval()
    expected = logits(model, tokens())
    model.save_pretrained(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) < 100_000  # no base weights
    fresh = quant.quantize(tiny_phi3().to(dtype), NF4())
    again = PeftModel.from_pretrained(
        fresh, tmp_path, config=for_quantized_layers(LoraConfig.from_pretrained(tmp_path))
    )
    assert logits(again.eval(), tokens()) == expected


def test_conv1d_bases_take_adapters_and_no_merge() -> None:
    """A dequantized Conv1D holds its weight transposed: adding [out, in] to a square one would go unnoticed."""
    model = get_peft_model(quant.quantize(tiny_gpt2(), W8A16()), config(target_modules=["c_proj"]))
    model = with_values(model).eval()
    expected = logits(model, tokens())
    quant.dequantize(model)
    assert logits(model, tokens()) != expected  # the codes' own arithmetic against floats
    with pytest.raises(QuantError, match=r"Conv1D.*cannot be merged into this layer: keep it apart"):
        model.merge_adapter()


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}], ids=str
)
def test_adapters_that_read_the_weight_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(QuantError, match="need the float weight: use plain LoRA"):
        get_peft_model(base(NF4()), config(**options))


def test_all_linear_is_refused_as_it_finds_float_layers_only() -> None:
    with pytest.raises(QuantError, match="'all-linear' finds float layers only: name the layers"):
        for_quantized_layers(LoraConfig(target_modules="all-linear"))
