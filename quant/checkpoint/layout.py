"""Where each tensor of an output file goes: the file's header and the offsets, before a byte of data exists.

The order is that of the safetensors library, dtypes with large elements first and names ascending among equals, so that
every tensor is aligned to its element size and the bytes are the same as if the library had written the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quant.checkpoint.headers import LENGTH_BYTES, NAMES
from quant.checkpoint.plan import OutputTensor

ALIGNMENT = 8
"""Of the data: the header is filled up with spaces."""
METADATA = {"format": "pt"}
"""What transformers asks for in a file of PyTorch tensors."""
RANKS = {dtype: rank for rank, dtype in enumerate(NAMES)}


@dataclass(frozen=True)
class FileLayout:
    """header: the first bytes of the file; offsets: tensor -> position of its first byte; size: bytes of the file."""

    header: bytes
    offsets: Mapping[str, int]
    size: int


def lay_out(tensors: Sequence[OutputTensor]) -> FileLayout:
    """The layout of a file with these tensors, whose names differ."""
    entries: dict[str, object] = {"__metadata__": METADATA}
    starts, position = {}, 0
    for tensor in sorted(tensors, key=_order):
        starts[tensor.name] = position
        entries[tensor.name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    header = len(text).to_bytes(LENGTH_BYTES, "little") + text
    return FileLayout(header, {n: len(header) + start for n, start in starts.items()}, len(header) + position)


def _order(tensor: OutputTensor) -> tuple[int, str]:
    return RANKS[tensor.dtype], tensor.name


def index_text(files: Mapping[str, Sequence[OutputTensor]]) -> str:
    """The index of these files as JSON, as transformers writes it."""
    tensors = sorted((tensor for held in files.values() for tensor in held), key=lambda tensor: tensor.name)
    content = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)},
        "weight_map": {tensor.name: tensor.file for tensor in tensors},
    }
    return json.dumps(content, indent=2) + "\n"
