"""Model folders for tests of conversions on disk: made, read, compared and changed."""

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
from quant.integrations.transformers import load_model
from quant.schemes import Scheme
from tests.checkpoints import save
from tests.models import tiny_gpt2, tiny_phi3

SCHEME = NF4(double_quant=True)
"""What the fixtures `our_folder` and `their_folder` are quantized to."""


FLOAT_FOLDERS = ("phi3", "phi3-shards", "phi3-tied", "phi3-bfloat16", "gpt2")


def save_float(base: Path) -> dict[str, Path]:
    """A float model of each kind in `FLOAT_FOLDERS`, as save_pretrained leaves it."""
    small: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    models = (
        tiny_phi3(**small),
        tiny_phi3(**small),
        tiny_phi3(tied=True, **small),
        tiny_phi3(**small).bfloat16(),
        tiny_gpt2(),
    )
    return {
        name: save(model, base / name, max_shard_size="100KB" if name == "phi3-shards" else "10GB")
        for name, model in zip(FLOAT_FOLDERS, models, strict=True)
    }


def save_ours(folder: Path, out: Path, scheme: Scheme) -> Path:
    """The float model in `folder`, quantized in bfloat16, with its tokenizer, in `out`."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    return save(quant.quantize(load_model(folder, torch.bfloat16), scheme), out)


def config_of(folder: Path) -> dict[str, Any]:
    """The content of config.json."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def configure(folder: Path, **changes: Any) -> None:
    """Change entries of config.json; None removes one."""
    config = {**config_of(folder), **changes}
    write_config(folder, {name: value for name, value in config.items() if value is not None})


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace config.json."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor, of all safetensors files."""
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Replace the weights, of one file, by what `change` leaves of them."""
    tensors = tensors_of(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same names, and tensors of the same dtypes, shapes and values."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name], tensor), name


def interrupt(*_: object) -> None:
    """In the place of a function: Ctrl-C when it is called."""
    raise KeyboardInterrupt
