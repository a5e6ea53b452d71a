"""Checkpoints that transformers saves of models quantized by bitsandbytes: into ours and back, bit for bit.

Models are saved before their first forward, which on some CPUs damages what is saved (`test_bitsandbytes_faults`).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import BitsAndBytesConfig

import quant
from quant import FP4, NF4, QuantError
from quant.checkpoint_conversion import convert_checkpoint
from quant.schemes import Blockwise
from tests.models import snapshot, tiny_gpt2, tokens
from tests.parity.checkpoints import assert_same_weights, load, load_theirs
from tests.strategies import bits

KINDS: dict[str, type[Blockwise]] = {"nf4": NF4, "fp4": FP4}
DTYPES = (torch.bfloat16, torch.float32)
SAVED = (NF4(32), FP4(128, True), NF4(4096, True), NF4(scale="mse"), FP4(32, True, scale="mse"))
SMALL = "17KB"
"""Shards of this size part the codes of a layer from its absmax."""


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def spread_layers(folder: Path) -> list[str]:
    """Of bitsandbytes: names of the codes that are in another file than their absmax."""
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    return [name for name in index if f"{name}.absmax" in index and index[f"{name}.absmax"] != index[name]]


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    def describe(tensors: dict[str, Tensor]) -> dict[str, Any]:
        return {name: (t.dtype, t.shape, bits(t.flatten())) for name, t in tensors.items()}

    return describe(a) == describe(b)


def quantization(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    return config


@pytest.mark.parametrize("double", [False, True], ids=["plain", "double"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_goes_there_and_back_without_a_bit_changed(
    float_folder: Path, tmp_path: Path, kind: str, dtype: torch.dtype, double: bool
) -> None:
    theirs = load_theirs(float_folder, dtype, kind, double)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=SMALL)
    assert spread_layers(tmp_path / "theirs")

    scheme = KINDS[kind](64, double)
    done = convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    assert (done.scheme, len(done.layers)) == (scheme, 8)
    ours = load(tmp_path / "ours")
    assert ours.dtype == dtype
    assert_same_weights(ours, theirs, 8)
    expected = quant.quantize(load(float_folder, dtype=dtype), scheme)
    assert snapshot(ours)[1] == snapshot(expected)[1]

    assert convert_checkpoint(str(tmp_path / "ours"), tmp_path / "back", "bitsandbytes").layers == done.layers
    assert same_tensors(tensors_of(tmp_path / "back"), tensors_of(tmp_path / "theirs"))
    before, after = quantization(tmp_path / "theirs"), quantization(tmp_path / "back")
    assert {**before, "llm_int8_skip_modules": ["lm_head"]} == {**before, **after}
    assert_same_weights(ours, load(tmp_path / "back"), 8)


@pytest.mark.parametrize("scheme", SAVED, ids=str)
def test_every_block_size_and_searched_absmax_are_loaded_by_transformers(
    float_folder: Path, tmp_path: Path, scheme: Blockwise
) -> None:
    """Its configuration has none: it is in every weight. Without repacking it computes as a float model does."""
    ours: Any = quant.quantize(load(float_folder), scheme)
    ours.save_pretrained(tmp_path / "ours")
    assert convert_checkpoint(str(tmp_path / "ours"), tmp_path / "theirs", "bitsandbytes").scheme == scheme
    theirs = load(tmp_path / "theirs")
    assert_same_weights(ours, theirs, 8)
    for name, module in theirs.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            assert (name, module.weight.quant_state.blocksize) == (name, scheme.block_size)
    floats: Any = quant.dequantize(ours)
    with torch.no_grad():
        assert torch.equal(theirs(tokens()).logits, floats(tokens()).logits)


@pytest.mark.parametrize(
    ("skipped", "layers"), [(["lm_head", "down_proj"], 6), ([], 9)], ids=["some layers", "nothing, not even the head"]
)
def test_what_was_skipped_stays_float(float_folder: Path, tmp_path: Path, skipped: list[str], layers: int) -> None:
    theirs = load_theirs(float_folder, torch.bfloat16, llm_int8_skip_modules=skipped)
    theirs.save_pretrained(tmp_path / "theirs")
    convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    assert_same_weights(load(tmp_path / "ours"), theirs, layers)
    convert_checkpoint(str(tmp_path / "ours"), tmp_path / "back", "bitsandbytes")
    assert len(quantization(tmp_path / "back")["llm_int8_skip_modules"]) == 9 - layers
    assert same_tensors(tensors_of(tmp_path / "back"), tensors_of(tmp_path / "theirs"))
    assert_same_weights(load(tmp_path / "ours"), load(tmp_path / "back"), layers)


def test_conv1d_layers_and_a_tied_head_go_there_and_back(tmp_path: Path) -> None:
    model: Any = tiny_gpt2()
    model.save_pretrained(tmp_path / "float")
    theirs = load_theirs(tmp_path / "float", torch.float32, double=True)
    theirs.save_pretrained(tmp_path / "theirs")
    convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    ours = load(tmp_path / "ours")
    assert_same_weights(quant.quantize(load(tmp_path / "float"), NF4(double_quant=True)), theirs, 8)
    assert_same_weights(ours, theirs, 8)
    assert ours.lm_head.weight is ours.transformer.wte.weight
    convert_checkpoint(str(tmp_path / "ours"), tmp_path / "back", "bitsandbytes")
    assert same_tensors(tensors_of(tmp_path / "back"), tensors_of(tmp_path / "theirs"))
    assert_same_weights(ours, load(tmp_path / "back"), 8)


@pytest.mark.parametrize("storage", ["bfloat16", "float32"])
def test_codes_stored_under_a_float_dtype_are_read_and_written_as_bytes(
    float_folder: Path, tmp_path: Path, storage: str
) -> None:
    theirs = load_theirs(float_folder, torch.bfloat16, bnb_4bit_quant_storage=storage)
    theirs.save_pretrained(tmp_path / "theirs")
    convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    assert_same_weights(load(tmp_path / "ours"), theirs, 8)
    convert_checkpoint(str(tmp_path / "ours"), tmp_path / "back", "bitsandbytes")
    plain = load_theirs(float_folder, torch.bfloat16)
    plain.save_pretrained(tmp_path / "plain")
    assert same_tensors(tensors_of(tmp_path / "back"), tensors_of(tmp_path / "plain"))
    assert load(tmp_path / "back").config.quantization_config.bnb_4bit_quant_storage == torch.uint8


def test_llm_int8_is_refused(float_folder: Path, tmp_path: Path) -> None:
    theirs = load(float_folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.raises(QuantError, match=r"\.SCB: a layer of LLM\.int8"):
        convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    assert not (tmp_path / "ours").exists()
