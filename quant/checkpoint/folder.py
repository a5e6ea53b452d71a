"""A checkpoint: `model.safetensors`, or the shards that `model.safetensors.index.json` lists, checked against each
other.

The index and the headers say the same thing twice, and only where they agree is it believed: every tensor of the index
is in the shard that it names, every tensor of a shard is in the index under that shard, and none is in two. Shards are
plain names of files in the folder: an index from the hub could otherwise have any file of this machine read. Files that
the index does not list are not part of the checkpoint (some repositories hold a second copy in another layout).

Only headers are read. Refused: pickled weights, which can run code when they are read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.checkpoint.headers import Header, StoredTensor, read_header
from quant.errors import QuantError

CONFIG = "config.json"
WEIGHTS = ".safetensors"
SINGLE = f"model{WEIGHTS}"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose headers and index agree.

    Attributes:
        folder: where it is.
        files: name of each safetensors file -> its header, sorted by name.
        sharded: whether there is an index.
    """

    folder: Path
    files: Mapping[str, Header]
    sharded: bool

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """Name -> tensor, of all files."""
        return {name: tensor for header in self.files.values() for name, tensor in header.tensors.items()}


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the index and all headers of the checkpoint in `folder`.

    Raises:
        QuantError: no safetensors, pickles only, a file that is missing or damaged, an index that does not fit.
    """
    index = folder / INDEX
    if index.is_file():
        weight_map = _read_index(index)
        files = {name: read_shard(folder / name) for name in sorted(set(weight_map.values()))}
        _check_index(index, weight_map, files)
        if SINGLE not in files and (folder / SINGLE).exists():
            raise QuantError(
                f"{folder} holds two checkpoints, {SINGLE} and the files that {INDEX} lists: remove the one that "
                "is not meant"
            )
        return Checkpoint(folder, files, sharded=True)
    if (folder / SINGLE).is_file():
        return Checkpoint(folder, {SINGLE: read_header(folder / SINGLE)}, sharded=False)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise QuantError(
            f"{folder} holds pickled weights only, which are refused because they can run code when read: convert it "
            "to safetensors where you trust it (transformers' save_pretrained writes them)"
        )
    raise QuantError(f"{folder} has no {SINGLE}: pass a folder that save_pretrained wrote to its end")


def read_shard(path: Path) -> Header:
    """As `read_header`, for a file that an index lists."""
    if not path.is_file():
        raise QuantError(f"{path} is missing: the checkpoint is half-written, download it again")
    return read_header(path)


def read_json(path: Path) -> Any:
    """Raises:
    QuantError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise QuantError(f"{path} cannot be read ({error.strerror}): check the file, or download it again") from error
    except (ValueError, RecursionError) as error:
        raise QuantError(
            f"{path} is not valid JSON ({error}), it is damaged or half-written: download or save it again"
        ) from error


def _read_index(index: Path) -> dict[str, str]:
    """Tensor -> file, as the index says it."""
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise QuantError(f"{index} has no weight_map from tensors to files: the file is damaged, download it again")
    for tensor, name in weight_map.items():
        if not is_plain_name(name):
            raise QuantError(
                f"{index}: tensor {tensor} is said to be in {name!r}, which is not the name of a file in the folder: "
                "do not trust this checkpoint"
            )
    return weight_map


def is_plain_name(name: str) -> bool:
    """Whether `name` can only be a file in the folder that it is looked up in."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _check_index(index: Path, weight_map: dict[str, str], files: Mapping[str, Header]) -> None:
    for file, header in files.items():
        for tensor in header.tensors:
            listed = weight_map.get(tensor)
            if listed is None:
                raise QuantError(f"{header.path}: tensor {tensor} is not in {index.name}: {_MIXED_UP}")
            if listed == file:
                continue
            if tensor in files[listed].tensors:
                raise QuantError(f"{header.path}: tensor {tensor} is in {listed} as well: {_MIXED_UP}")
            raise QuantError(f"{header.path}: tensor {tensor} is in {listed} according to {index.name}: {_MIXED_UP}")
    for tensor, file in weight_map.items():
        if tensor not in files[file].tensors:
            raise QuantError(f"{index.parent / file}: tensor {tensor} is missing, {index.name} lists it: {_MIXED_UP}")


_MIXED_UP = "the shards and the index are not of one checkpoint, download it again"
