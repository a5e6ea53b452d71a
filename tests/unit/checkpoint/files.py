"""safetensors files for tests: damaged ones put together from parts, and a small checkpoint in shards with its plan."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from quant.checkpoint.folder import INDEX, Checkpoint
from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.tensor_jobs import cast_job, quantize_job
from quant.schemes import Scheme
from tests.strategies import normal

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_parts(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A file of this header and data, whether or not they fit; length: of the header as the file says it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def layer_tensors(dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Two linear layers, one of them with a bias, and an embedding: of odd sizes, so that blocks and chunks are cut."""
    return {
        "embedding.weight": normal((7, 5), 1, 1.0).to(dtype),
        "first.bias": normal((33,), 2, 1.0).to(dtype),
        "first.weight": normal((33, 130), 3, 1.0).to(dtype),
        "second.weight": normal((9, 33), 4, 1.0).to(dtype),
    }


def write_sharded(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """`tensors` in two shards and an index, a small file beside them."""
    folder.mkdir(exist_ok=True)
    names = sorted(tensors)
    parts = dict(zip(SHARDS, (names[::2], names[1::2]), strict=True))
    for shard, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, part in parts.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    (folder / "tokenizer.json").write_text('{"model": "none"}', encoding="utf-8")
    return folder


def plan_of(checkpoint: Checkpoint, scheme: Scheme, dtype: torch.dtype = torch.bfloat16) -> Plan:
    """Quantize what is a matrix and no embedding, cast the rest."""
    jobs: list[Job] = []
    for name, stored in checkpoint.tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "weight" and layer != "embedding":
            jobs.append(quantize_job(stored, layer, scheme, dtype, transposed=False))
        else:
            jobs.append(cast_job(stored, dtype))
    copies = {"tokenizer.json": checkpoint.folder / "tokenizer.json"}
    settings = {"scheme": str(scheme), "dtype": str(dtype)}
    return Plan(tuple(jobs), checkpoint.sharded, settings, {"config.json": "{}\n"}, copies)


def digests(folder: Path) -> dict[str, str]:
    """Every file below `folder` -> SHA-256."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
