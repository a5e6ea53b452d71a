"""Faults of dtypes and devices (D1 to D7) in the parts that no other test holds."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import quant
from quant.checkpoint_quantization import quantize_checkpoint
from quant.integrations.transformers import load_model
from quant.schemes import NF4, SCHEMES, W8A16, Scheme
from tests.checkpoints import config_for, load, logits, save
from tests.contract.battery.layers import TO_META, held_tensors
from tests.models import Layers, seeded, tiny_gpt2, tiny_phi3, tokens
from tests.strategies import bits, normal, scheme_id

HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("spelling", TO_META)
@pytest.mark.parametrize("scheme", [W8A16(), NF4(double_quant=True)], ids=scheme_id)
def test_d2_a_move_of_a_model_moves_every_tensor_of_its_layers(scheme: Scheme, spelling: str) -> None:
    """To the meta device, which stands for a second one; what hangs on modules and tensors and is no buffer counts."""
    model = TO_META[spelling](quant.quantize(seeded(Layers), scheme))
    tensors = held_tensors(model)
    assert len(tensors) == len(model.state_dict())
    assert all(tensor.is_meta for tensor in tensors)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=scheme_id)
def test_d4_models_in_half_precision_generate(scheme: Scheme, dtype: torch.dtype) -> None:
    """Layer by layer what one returns is what the next one takes, in prefill and in decoding with the cache."""
    model: Any = quant.quantize(tiny_phi3().to(dtype), scheme)
    dtypes: set[torch.dtype] = set()
    for layer in model.modules():
        layer.register_forward_hook(
            lambda _, inputs, output: dtypes.update(
                tensor.dtype for tensor in (*inputs, output) if isinstance(tensor, torch.Tensor)
            )
        )
    ids = tokens(1, 4)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=4, max_new_tokens=4, pad_token_id=0)
    assert out.shape == (1, 8)
    assert dtypes == {dtype, torch.int64}


def gpt2_with_biases() -> Any:
    """As it is made its biases are zeros, and nothing is missed where one is lost."""
    model: Any = tiny_gpt2()
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if name.endswith(".bias"):
            parameter.data.copy_(normal(parameter.shape, seed=index))
    return model


@pytest.mark.parametrize("scheme", [W8A16(), NF4(double_quant=True)], ids=scheme_id)
def test_d5_biases_come_along_by_every_road(scheme: Scheme, tmp_path: Path) -> None:
    """Quantized in memory, while loading, on disk; saved and loaded."""
    name = next(name for name, named in SCHEMES.items() if named == scheme)
    folder = save(gpt2_with_biases(), tmp_path / "float")
    in_memory = quant.quantize(gpt2_with_biases(), scheme)
    quantize_checkpoint(str(folder), tmp_path / "on-disk", name)
    biases = {key: bits(value) for key, value in gpt2_with_biases().named_parameters() if key.endswith(".bias")}
    assert sum(".c_" in key for key in biases) == 8
    expected = logits(in_memory, tokens())
    assert expected != logits(quant.quantize(tiny_gpt2(), scheme), tokens())
    for model in (
        in_memory,
        load(folder, quantization_config=config_for(scheme)),
        load(tmp_path / "on-disk"),
        load(save(in_memory, tmp_path / "saved")),
    ):
        assert {key: bits(value) for key, value in model.named_parameters() if key.endswith(".bias")} == biases
        assert logits(model, tokens()) == expected


def frequencies(model: nn.Module) -> dict[str, tuple[torch.dtype, list[int]]]:
    return {name: (buffer.dtype, bits(buffer)) for name, buffer in model.named_buffers() if "inv_freq" in name}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=scheme_id)
def test_d7_rotary_frequencies_stay_float32_to_the_bit(scheme: Scheme, dtype: torch.dtype, tmp_path: Path) -> None:
    """In half precision by every road; they are no part of the file, so loading makes them anew."""
    expected = frequencies(tiny_phi3())
    assert {kind for kind, _ in expected.values()} == {torch.float32}
    folder = save(tiny_phi3(), tmp_path / "float")
    on_load = load(folder, quantization_config=config_for(scheme), dtype=dtype)
    saved = save(on_load, tmp_path / "saved")
    in_memory = quant.quantize(load_model(folder, dtype), scheme)
    for model in (
        on_load,
        load(saved),
        in_memory,
        quant.dequantize(copy.deepcopy(in_memory)),
        load_model(folder, dtype),
    ):
        assert frequencies(model) == expected
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert not any("inv_freq" in name for name in file.keys())  # noqa: SIM118
