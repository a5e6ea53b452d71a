"""Checkpoints that transformers saves of models quantized by bitsandbytes: into ours and back, bit for bit.

`F.dequantize_4bit` is what bitsandbytes computes with where it does not repack weights for AVX512-BF16. Models are
saved before their first forward, which on such CPUs damages what is saved; the last tests hold what happens otherwise.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import quant
from quant import FP4, NF4, BlockwiseLinear, QuantError
from quant.conversion import convert_checkpoint
from quant.integrations.transformers import quiet_transformers
from quant.schemes import Blockwise
from tests.models import seeded, snapshot, tiny_gpt2, tiny_phi3, tokens
from tests.strategies import bits, normal

KINDS: dict[str, type[Blockwise]] = {"nf4": NF4, "fp4": FP4}
DTYPES = (torch.bfloat16, torch.float32)
SMALL = "17KB"
"""Shards of this size part the codes of a layer from its absmax."""


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """What bitsandbytes wrapped in torch.compile runs uncompiled, and transformers says nothing but errors."""
    with torch.compiler.set_stance("force_eager"), quiet_transformers():
        yield


@pytest.fixture(scope="module")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Phi-3 in float32."""
    folder = tmp_path_factory.mktemp("float")
    with quiet_transformers():
        tiny_phi3().save_pretrained(folder)
    return folder


def load(folder: Path, **options: Any) -> Any:
    """The model in `folder`, with nothing missing and nothing left over."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return model


def load_theirs(folder: Path, dtype: torch.dtype, kind: str = "nf4", double: bool = False, **options: Any) -> Any:
    """A float model quantized by bitsandbytes while it is loaded."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=dtype,
        **options,
    )
    return load(folder, dtype=dtype, quantization_config=config)


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


def their_weight(layer: Any) -> Tensor:
    """What bitsandbytes dequantizes, as one row: its CPU kernel misreads blocks that run over the ends of rows."""
    state = layer.weight.quant_state
    shape, state.shape = state.shape, torch.Size((state.shape.numel(),))
    weight: Tensor = bnb.dequantize_4bit(layer.weight.data, state).view(shape)
    state.shape = shape
    return weight


def assert_same_weights(ours: Any, theirs: Any, layers: int) -> None:
    """Of all quantized layers, bit for bit, down to the dtype; everything else of the models is the same too."""
    names = [name for name, module in ours.named_modules() if isinstance(module, BlockwiseLinear)]
    assert len(names) == layers
    for name in names:
        weight = ours.get_submodule(name).dequantize().weight
        expected = their_weight(theirs.get_submodule(name))
        assert weight.dtype == expected.dtype
        assert bits(weight) == bits(expected), name
    stored = {name: tensor for name, tensor in theirs.state_dict().items() if ".weight." not in name}
    others = [name for name in stored if name.rpartition(".")[0] not in names]
    assert len(others) > 3
    for name in others:
        assert bits(ours.state_dict()[name]) == bits(stored[name]), name


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
