"""LoRA on a frozen quantized base: an adapter is added once, trained alone, saved, loaded, merged only into floats."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

import quant
from quant.errors import QuantError
from quant.integrations.peft import QuantizedLoraLinear, for_quantized_layers
from quant.schemes import NF4, W8A16, Scheme
from tests.models import tiny_gpt2, tiny_phi3, tokens
from tests.strategies import normal, scheme_id
from tests.unit.integrations.checkpoints import logits, state

TARGETS = ["qkv_proj", "down_proj"]
SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4())


# What users still call, and whose end transformers announces.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")


def base(scheme: Scheme) -> Any:
    return quant.quantize(tiny_phi3(), scheme)


def config(**options: Any) -> LoraConfig:
    return for_quantized_layers(LoraConfig(**{"r": 4, "target_modules": TARGETS, **options}))


def with_values(model: Any) -> Any:
    """`model` with its B matrices, which start as zeros, filled."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if "lora_B" in name:
            parameter.data.copy_(normal(parameter.shape, seed=index, std=0.1))
    return model


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_an_untrained_adapter_changes_no_bit(scheme: Scheme) -> None:
    expected = logits(base(scheme), tokens())
    assert logits(get_peft_model(base(scheme), config()), tokens()) == expected


@pytest.mark.parametrize("name", ["default", "other"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_adapter_is_added_once_and_scaled(scheme: Scheme, name: str) -> None:
    model = with_values(get_peft_model(base(scheme), config(lora_alpha=12), adapter_name=name)).eval()
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.down_proj")
    assert isinstance(layer, QuantizedLoraLinear)
    x = normal((3, layer.in_features), seed=5)
    expected = layer.base_layer(x) + layer.lora_B[name](layer.lora_A[name](x)) * (12 / 4)
    assert torch.equal(layer(x), expected)
    assert not torch.equal(layer(x), layer.base_layer(x))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_training_lowers_the_loss_and_leaves_the_codes(scheme: Scheme, checkpointing: bool) -> None:
    model = get_peft_model(base(scheme), config())
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    model.train()
    frozen = {name: value for name, value in state(model).items() if "lora" not in name}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-2)
    ids, losses = tokens(), []
    for _ in range(6):
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        assert all(parameter.grad is not None for parameter in trained)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.1  # of 6.2 nats; the learning rate is high, the text one line
    assert {name: value for name, value in state(model).items() if "lora" not in name} == frozen


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


def test_merging_into_codes_is_refused_and_changes_nothing() -> None:
    model = with_values(get_peft_model(base(NF4()), config())).eval()
    before, expected = state(model), logits(model, tokens())
    with pytest.raises(QuantError, match=r"BlockwiseLinear.*cannot be merged into this layer: quant\.dequantize"):
        model.merge_adapter()
    assert (state(model), logits(model, tokens())) == (before, expected)


def test_a_dequantized_base_takes_the_merge() -> None:
    model = with_values(get_peft_model(base(NF4()), config())).eval()
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.down_proj")
    added = layer.get_delta_weight("default")
    weight = layer.base_layer.dequantize().weight
    quant.dequantize(model)
    merged = model.merge_and_unload()
    assert type(merged.model.layers[0].mlp.down_proj) is nn.Linear
    assert torch.equal(merged.model.layers[0].mlp.down_proj.weight, weight + added)


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


def test_without_our_step_peft_refuses_the_layers() -> None:
    """So that forgetting it is not silent."""
    with pytest.raises(ValueError, match=r"BlockwiseLinear\(.*is not supported"):
        get_peft_model(base(NF4()), LoraConfig(target_modules=TARGETS))
