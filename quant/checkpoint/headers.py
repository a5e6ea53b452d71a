"""The header of a safetensors file: which tensors it holds, of which dtype and shape, and where.

    8 bytes: length n of the header, little-endian | n bytes of JSON | the tensors' bytes, without gaps

Every claim of the header is checked before a byte of data is believed: known dtypes, shapes that take as many bytes as
they are given, ranges that neither overlap nor leave anything out, and a file that ends where the last tensor does. So
a file that was cut short, appended to or overwritten is told by its name, and usually by its tensor. What the data
says is not checked here: a flipped bit there shows in a checksum only (`quant.checkpoint.manifest`).

Refused as well: names that occur twice, and dtypes that torch does not have in whole bytes.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from quant.errors import QuantError

DTYPES = {
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F32": torch.float32,
    "U32": torch.uint32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The format's names of dtypes -> torch's, in the order in which the safetensors library writes tensors of them."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000
"""Bytes of JSON; the limit of the safetensors library, so that a damaged length allocates no terabytes."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        path, name: the file and the tensor's name in it.
        dtype, shape: as stored.
        start: offset of its first byte in the file; nbytes: how many there are.
    """

    path: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.path}: tensor {self.name}"


@dataclass(frozen=True)
class Header:
    """A checked file.

    Attributes:
        path: the file; size: its bytes; modified: its time of modification in nanoseconds.
        digest: hex SHA-256 of its first bytes, up to the data.
        data_start: offset of the data.
        tensors: name -> tensor, in the order of their bytes.
    """

    path: Path
    size: int
    modified: int
    digest: str
    data_start: int
    tensors: Mapping[str, StoredTensor]


def read_header(path: Path) -> Header:
    """Read and check the header of the safetensors file `path`.

    Raises:
        QuantError: missing, unreadable, cut short, appended to, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            prefix = file.read(LENGTH_BYTES)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < LENGTH_BYTES:
                raise _damaged(path, f"only {len(prefix)} bytes")
            if length > min(LONGEST_HEADER, status.st_size - LENGTH_BYTES):
                raise _damaged(path, f"a header of {length} bytes in a file of {status.st_size}")
            text = file.read(length)
    except OSError as error:
        raise QuantError(f"{path} cannot be read ({error.strerror}): check the file, or download it again") from error
    if len(text) < length:
        raise _damaged(path, f"it ends after {len(text)} of its header's {length} bytes")
    entries = _parse(path, text)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its __metadata__ is not a table of strings")
    start = LENGTH_BYTES + length
    tensors = sorted((_tensor(path, name, entry, start) for name, entry in entries.items()), key=_position)
    _check_coverage(path, tensors, start, status.st_size)
    return Header(
        path=path,
        size=status.st_size,
        modified=status.st_mtime_ns,
        digest=hashlib.sha256(prefix + text).hexdigest(),
        data_start=start,
        tensors={tensor.name: tensor for tensor in tensors},
    )


def _damaged(path: Path, reason: str) -> QuantError:
    return QuantError(f"{path} is damaged or cut short ({reason}): download it again")


def _position(tensor: StoredTensor) -> tuple[int, int]:
    return tensor.start, tensor.nbytes


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise _damaged(path, f"{twice!r} occurs twice in its header")
        return table

    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except QuantError:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is no valid JSON: {error}") from error
    if not isinstance(entries, dict):
        raise _damaged(path, "its header is no table of tensors")
    return entries


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    """The tensor that `entry` of the header describes, its size checked against its dtype and shape."""
    where = f"tensor {name}: "
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"{where}its entry is not dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _damaged(path, f"{where}shape {shape!r}, data_offsets {offsets!r}")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise QuantError(
            f"{path}: tensor {name} has the unknown dtype {entry['dtype']!r}, of {', '.join(DTYPES)}: the file is "
            "damaged, or quantized by another library: pass a float checkpoint"
        )
    begin, end = offsets
    if end - begin != prod(shape) * dtype.itemsize:
        raise _damaged(path, f"{where}{entry['dtype']} {shape} in {end - begin} bytes")
    return StoredTensor(path, name, dtype, tuple(shape), data_start + begin, end - begin)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_coverage(path: Path, tensors: list[StoredTensor], start: int, size: int) -> None:
    """tensors: in the order of their bytes, which must be all bytes from `start` to `size`, each once."""
    for tensor in tensors:
        if tensor.start != start:
            fault = "overlaps the one before it" if tensor.start < start else "follows a gap"
            raise _damaged(path, f"tensor {tensor.name} {fault}")
        start += tensor.nbytes
        if start > size:
            raise _damaged(path, f"tensor {tensor.name} ends {start - size} bytes after the file")
    if start < size:
        raise _damaged(path, f"{size - start} bytes after its last tensor")
