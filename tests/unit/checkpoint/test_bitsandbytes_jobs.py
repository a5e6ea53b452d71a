"""Conversions to and from bitsandbytes as jobs: shards, memory while planning, and what is no part of a layer."""

import json
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quant import FP4, QuantizedTensor, quantize_tensor
from quant.checkpoint import bitsandbytes_jobs
from quant.checkpoint.bitsandbytes_jobs import Converted, jobs_from_bitsandbytes, jobs_to_bitsandbytes
from quant.checkpoint.bitsandbytes_layout import from_bitsandbytes, to_bitsandbytes
from quant.checkpoint.folder import INDEX, open_checkpoint
from quant.checkpoint.plan import Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import run
from tests.strategies import bits, normal
from tests.unit.checkpoint.files import write_sharded

SCHEME = FP4(32, double_quant=True)
DTYPE = torch.float16
LAYERS = {"b.fc": torch.Size((5, 97)), "a.fc": torch.Size((3, 32))}
"""In the order of the model, which is not that of the names; of the first the count of weights is odd."""
FLOATS = {
    "a.fc.bias": normal((3,), 1).to(DTYPE),
    "left.weight": normal((2, 2), 2).to(torch.bfloat16),
    "normed.weight_g": normal((2,), 3),
    "count": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}
"""No parts of a quantized layer, although one is called like that; each has another dtype or shape."""


def quantized() -> dict[str, QuantizedTensor]:
    return {name: quantize_tensor(normal(shape, 4).to(DTYPE), SCHEME) for name, shape in LAYERS.items()}


def ours() -> dict[str, Tensor]:
    stored = {f"{name}.{part}": t for name, weight in quantized().items() for part, t in weight.stored.items()}
    return {**FLOATS, **stored}


def theirs() -> dict[str, Tensor]:
    parts = {
        f"{name}.{part}": tensor.contiguous()
        for name, weight in quantized().items()
        for part, tensor in to_bitsandbytes(name, weight).items()
    }
    return {**FLOATS, **parts}


def read(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def described(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    return {name: (tensor.dtype, tensor.shape, bits(tensor.flatten())) for name, tensor in tensors.items()}


def made(folder: Path, to: str, layers: Mapping[str, torch.Size] = LAYERS) -> tuple[Converted, Path]:
    """What comes of the checkpoint in `folder`, and the folder where it is."""
    checkpoint = open_checkpoint(folder)
    with Inputs(checkpoint) as inputs:
        if to == "ours":
            converted = jobs_from_bitsandbytes(inputs, layers)
        else:
            converted = jobs_to_bitsandbytes(inputs, layers, SCHEME, DTYPE)
    out = folder.with_name(f"made-{to}")
    run(Plan(converted.jobs, checkpoint.sharded, {}), checkpoint, out)
    return converted, out


def write_shards(folder: Path, shards: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """A checkpoint of these files."""
    folder.mkdir()
    for shard, tensors in shards.items():
        save_file(dict(tensors), folder / shard)
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder


def test_layers_spread_over_shards_are_put_together_where_their_codes_are(tmp_path: Path) -> None:
    tensors = theirs()
    first = {name: t for name, t in tensors.items() if name == "a.fc.weight" or name.startswith("b.fc.weight.")}
    second = {name: t for name, t in tensors.items() if name not in first}
    shards = {"1.safetensors": first, "2.safetensors": second}
    converted, out = made(write_shards(tmp_path / "theirs", shards), "ours")
    assert (converted.scheme, converted.dtype, converted.layers) == (SCHEME, DTYPE, ("b.fc", "a.fc"))
    assert described(read(out)) == described(ours())
    expected = {name for name in ours() if name.startswith("a.fc.weight")}
    assert set(open_checkpoint(out).files["1.safetensors"].tensors) == expected


def test_layers_of_ours_that_are_spread_over_shards_are_put_together(tmp_path: Path) -> None:
    converted, out = made(write_sharded(tmp_path / "ours", ours()), "theirs")
    assert converted.layers == ("b.fc", "a.fc")
    assert described(read(out)) == described(theirs())


def test_a_shard_that_only_held_parts_of_layers_is_not_written(tmp_path: Path) -> None:
    tensors = theirs()
    parts = {name: tensor for name, tensor in tensors.items() if ".weight." in name}
    codes = {name: tensor for name, tensor in tensors.items() if name not in parts}
    folder = write_shards(tmp_path / "theirs", {"1.safetensors": codes, "2.safetensors": parts})
    _, out = made(folder, "ours")
    assert [path.name for path in out.glob("*.safetensors")] == ["1.safetensors"]
    assert described(read(out)) == described(ours())


@pytest.mark.parametrize("to", ["ours", "theirs"])
def test_planning_keeps_no_absmax_in_memory(tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a ninth of the model: of each layer they are checked, let go, and read again when they are copied."""
    seen: list[weakref.ref[Tensor]] = []

    def from_watched(name: str, parts: Mapping[str, Tensor]) -> QuantizedTensor:
        seen.append(weakref.ref(parts["weight.absmax"]))
        return from_bitsandbytes(name, parts)

    def to_watched(name: str, weight: QuantizedTensor) -> dict[str, Tensor]:
        seen.append(weakref.ref(weight.stored["weight_absmax"]))
        return to_bitsandbytes(name, weight)

    monkeypatch.setattr(bitsandbytes_jobs, "from_bitsandbytes", from_watched)
    monkeypatch.setattr(bitsandbytes_jobs, "to_bitsandbytes", to_watched)
    converted, _ = made(write_sharded(tmp_path / "in", theirs() if to == "ours" else ours()), to)
    assert len(seen) == len(converted.layers) == 2
    assert [reference() for reference in seen] == [None, None]


@pytest.mark.parametrize("to", ["ours", "theirs"])
def test_a_conversion_comes_again_to_the_byte(tmp_path: Path, to: str) -> None:
    folder = write_sharded(tmp_path / "in", theirs() if to == "ours" else ours())
    _, out = made(folder, to)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    out.rename(tmp_path / "first")
    made(folder, to)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
