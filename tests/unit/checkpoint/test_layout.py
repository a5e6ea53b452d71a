"""A file laid out before its data exists has the bytes that the safetensors library would have written."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quant.checkpoint.headers import DTYPES, read_header
from quant.checkpoint.layout import index_text, lay_out
from quant.checkpoint.plan import OutputTensor
from quant.checkpoint.tensor_bytes import raw_bytes


def assemble(tensors: dict[str, Tensor]) -> bytes:
    """The file of these tensors, written by its layout."""
    layout = lay_out([OutputTensor("f", name, t.dtype, tuple(t.shape)) for name, t in tensors.items()])
    content = bytearray(layout.size)
    content[: len(layout.header)] = layout.header
    for name, tensor in tensors.items():
        data = raw_bytes(tensor)
        content[layout.offsets[name] : layout.offsets[name] + len(data)] = data
    return bytes(content)


def test_the_bytes_are_the_librarys(tmp_path: Path) -> None:
    """All dtypes in one file, two of each, named against the order; scalars, empty tensors and a name beyond ASCII."""
    tensors = {f"{letter}.{name}": torch.arange(3).to(dtype) for letter in "ba" for name, dtype in DTYPES.items()}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 2), "naïve": torch.ones(2, 2)}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    assert assemble(tensors) == path.read_bytes()


def test_every_tensor_is_aligned_to_its_elements(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3, dtype=torch.int8), "b": torch.zeros(1, dtype=torch.bfloat16), "c": torch.zeros(1)}
    path = tmp_path / "model.safetensors"
    path.write_bytes(assemble(tensors))
    for tensor in read_header(path).tensors.values():
        assert tensor.start % tensor.dtype.itemsize == 0
    assert load_file(path).keys() == tensors.keys()


def test_an_index_lists_every_tensor_and_their_bytes() -> None:
    files = {
        "2": [OutputTensor("2", "a", torch.float32, (2, 3)), OutputTensor("2", "c", torch.int8, ())],
        "1": [OutputTensor("1", "b", torch.bfloat16, (5,))],
    }
    content = json.loads(index_text(files))
    assert content == {"metadata": {"total_size": 24 + 1 + 10}, "weight_map": {"a": "2", "b": "1", "c": "2"}}
    assert list(content["weight_map"]) == ["a", "b", "c"]
