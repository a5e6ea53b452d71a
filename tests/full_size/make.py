"""`python -m tests.full_size.make FOLDER [--layers N] [--shrink N] [--seed N]`: write a Phi-3-mini-shaped checkpoint.

The same files as on the hub: bfloat16 safetensors in shards below 5 GB, their index, config.json and
generation_config.json; no tokenizer, which measuring does not need. The model is never built: a file's header follows
from the shapes, and pieces of a few million weights are drawn and written to their places by `--workers` threads, so
memory stays the same whatever the size. The index and config.json come last: what was interrupted does not load.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor

from quant.errors import QuantError
from tests.full_size.phi3 import phi3_config, phi3_shapes
from tests.full_size.weights import Weight

PIECE = 2**20
"""Weights in memory at once, for each worker."""
SHARD = "5GB"
Shapes = Mapping[str, tuple[int, ...]]


def write_checkpoint(folder: Path, config: Any, seed: int = 0, workers: int = 2, largest_shard: str = SHARD) -> int:
    """Write a checkpoint of `config` (as `phi3_config` makes it) into `folder`; returns the bytes of its tensors.

    Raises:
        QuantError: there is something in `folder`.
        OSError: no space for the shards, told before the first weight is drawn.
    """
    if folder.exists() and any(folder.iterdir()):
        raise QuantError(f"{folder} is not empty: name a new folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    shapes = phi3_shapes(config)
    shards, index = _shards(shapes, largest_shard)
    with ThreadPoolExecutor(workers) as pool:
        for name, members in shards.items():
            weights = [Weight(member, shapes[member], config.num_hidden_layers, seed) for member in members]
            _write_shard(folder / name, weights, pool)
    if len(shards) > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    _write_configs(folder, config)
    return int(index["metadata"]["total_size"])


def _shards(shapes: Shapes, largest: str) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """File -> its tensors, as the hub's own library splits them, and what the index says."""
    tensors = {name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, shape in shapes.items()}
    split = split_torch_state_dict_into_shards(tensors, max_shard_size=largest)
    return split.filename_to_tensors, {"metadata": split.metadata, "weight_map": split.tensor_to_filename}


def _write_shard(path: Path, weights: list[Weight], pool: ThreadPoolExecutor) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for weight in weights:
        begin, end = end, end + 2 * torch.Size(weight.shape).numel()
        header[weight.name] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the tensors are aligned, as safetensors does it
    data = 8 + len(encoded)
    with path.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, data + end)
        file.write(len(encoded).to_bytes(8, "little") + encoded)

        def write(piece: tuple[Weight, int, int]) -> None:
            weight, first, last = piece
            row = 2 * torch.Size(weight.shape[1:]).numel()
            place = data + header[weight.name]["data_offsets"][0] + first * row
            _write_at(file.fileno(), weight.rows(first, last), place)

        for _ in pool.map(write, _pieces(weights)):
            pass
        os.fsync(file.fileno())


def _pieces(weights: list[Weight]) -> Iterator[tuple[Weight, int, int]]:
    """(weight, first row, last row + 1): norms whole, matrices in pieces of at most `PIECE` weights or one row."""
    for weight in weights:
        count = weight.shape[0]
        step = max(1, PIECE // weight.shape[1]) if len(weight.shape) == 2 else count
        for first in range(0, count, step):
            yield weight, first, min(first + step, count)


def _write_at(descriptor: int, values: Tensor, place: int) -> None:
    left = values.view(torch.uint8).view(-1).numpy().data
    while left:
        written = os.pwrite(descriptor, left, place)
        left, place = left[written:], place + written


def _write_configs(folder: Path, config: Any) -> None:
    from transformers import GenerationConfig  # noqa: PLC0415

    GenerationConfig.from_model_config(config).save_pretrained(folder)
    config.save_pretrained(folder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m tests.full_size.make", description="Write a checkpoint like Phi-3-mini's"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="instead of 32")
    parser.add_argument("--shrink", type=int, default=1, help="divide widths, heads and vocabulary by 2, 4, ... 32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the workers are the threads
    began = time.perf_counter()
    try:
        config = phi3_config(options.layers, options.shrink)
        size = write_checkpoint(options.folder, config, options.seed, options.workers)
    except (QuantError, ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(
        f"{options.folder}: {size / 2e9:.2f} billion weights, {size / 1e9:.2f} GB in {seconds:.1f} s "
        f"({size / seconds / 1e6:.0f} MB/s), peak memory {peak / 1e6:.0f} MB\n"
    )


if __name__ == "__main__":
    main()
