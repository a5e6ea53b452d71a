"""Saving and loading with transformers, watched: nothing may be missing, left over or of another shape. And what tests
do to the files: read, edit and damage them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import quant
from quant.integrations.quantization_config import QuantConfig
from quant.integrations.transformers import quiet_transformers
from quant.modules import QuantizedLinear
from quant.schemes import Scheme
from tests.models import tokens
from tests.strategies import bits

SPLIT = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}
"""A device map of the tiny Phi-3."""


def config_for(scheme: Scheme, **choice: Any) -> QuantConfig:
    """The configuration that a user writes for `scheme`."""
    return QuantConfig.of(scheme, **choice)


def save(model: Any, folder: Path, **options: Any) -> Path:
    """`model.save_pretrained`, quietly; returns `folder`."""
    with quiet_transformers():
        model.save_pretrained(folder, **options)
    return folder


def load(folder: Path, auto: Any = AutoModelForCausalLM, **options: Any) -> Any:
    """`from_pretrained`, with an empty report."""
    with quiet_transformers():
        model, report = auto.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    return model


def state(model: nn.Module) -> dict[str, tuple[torch.dtype, torch.Size, list[int]]]:
    """Everything that `model` stores, to the bit."""
    return {name: (tensor.dtype, tensor.shape, bits(tensor.reshape(-1))) for name, tensor in model.state_dict().items()}


def logits(model: Any, ids: Tensor) -> list[int]:
    """The bits of the logits of `ids`."""
    with torch.no_grad():
        return bits(model(ids).logits.reshape(-1))


def contents(folder: Path) -> dict[str, bytes]:
    """File name -> bytes of everything in `folder`."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def flip(path: Path, position: int) -> None:
    """Change the lowest bit of the byte at `position`, which counts from the end where it is negative."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def data_bytes(path: Path) -> int:
    """Bytes of a safetensors file without its header."""
    content = path.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


def quantized_names(model: nn.Module) -> list[str]:
    """Of the layers of `model` that are quantized, in its order."""
    return [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]


def assert_round_trip(float_folder: Path, scheme: Scheme, dtype: torch.dtype, folder: Path, **sharding: Any) -> Any:
    """Both roads of quantizing, and each saved, loaded and saved again; returns the loaded model."""
    on_load = load(float_folder, quantization_config=config_for(scheme), dtype=dtype)
    in_memory = quant.quantize(load(float_folder, dtype=dtype), scheme)
    assert quantized_names(on_load) == quantized_names(in_memory) != []
    assert state(on_load) == state(in_memory)
    assert logits(on_load, tokens()) == logits(in_memory, tokens())

    saved = save(on_load, folder / "on-load", **sharding)
    assert contents(saved) == contents(save(in_memory, folder / "in-memory", **sharding))
    loaded = load(saved)
    assert quantized_names(loaded) == quantized_names(on_load)
    assert state(loaded) == state(on_load)
    assert logits(loaded, tokens()) == logits(on_load, tokens())
    assert contents(saved) == contents(save(loaded, folder / "again", **sharding))
    assert state(loaded) == state(on_load)
    return loaded


def edited(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of `folder` with `changes` to the quantization_config in its config.json."""
    shutil.copytree(folder, target)
    path = target / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["quantization_config"].update(changes)
    path.write_text(json.dumps(config), encoding="utf-8")
    return target


def without(folder: Path, target: Path, name: str) -> Path:
    """A copy of `folder` (one file of weights) without the tensor `name`."""
    shutil.copytree(folder, target)
    path = target / "model.safetensors"
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    return target
