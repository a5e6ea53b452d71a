"""Quantized checkpoints for tests of conversions: made, read and changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import quant
from quant import NF4
from quant.integrations.transformers import load_model, quiet_transformers
from quant.schemes import Scheme

SCHEME = NF4(double_quant=True)
"""What the fixtures `our_folder` and `their_folder` are quantized to."""


def save_ours(folder: Path, out: Path, scheme: Scheme) -> Path:
    """The float model in `folder`, quantized in bfloat16, with its tokenizer, in `out`."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    model: Any = quant.quantize(load_model(folder, torch.bfloat16), scheme)
    with quiet_transformers():
        model.save_pretrained(out)
    return out


def config_of(folder: Path) -> dict[str, Any]:
    """The content of config.json."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def configure(folder: Path, **changes: Any) -> None:
    """Change entries of config.json; None removes one."""
    config = {name: value for name, value in {**config_of(folder), **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Of a checkpoint in one file."""
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Replace the weights by what `change` leaves of them."""
    tensors = tensors_of(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
