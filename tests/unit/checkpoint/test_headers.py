"""What a safetensors header claims is read as the library reads it, and believed only where the whole file agrees."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from quant.checkpoint.headers import DTYPES, read_header
from quant.errors import QuantError
from tests.unit.checkpoint.files import entry, layer_tensors, write_parts


def test_a_header_says_what_the_library_says(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {**layer_tensors(), "scalar": torch.tensor(3.0), "none": torch.zeros(0, 4, dtype=torch.int8)}
    save_file(tensors, path, metadata={"format": "pt"})
    header = read_header(path)
    assert header.size == path.stat().st_size
    content = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        assert sorted(header.tensors) == sorted(file.keys())
        for name, tensor in header.tensors.items():
            expected = file.get_tensor(name)
            assert (tensor.dtype, tensor.shape) == (expected.dtype, tuple(expected.shape))
            stored = content[tensor.start : tensor.start + tensor.nbytes]
            assert stored == expected.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype_is_read_by_the_librarys_name(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(3).to(dtype)}, path)
    assert read_header(path).tensors["x"].dtype == dtype


A = entry("F32", [2], 0, 8)
DAMAGE = {
    "no JSON": (b"{", "no valid JSON"),
    "not UTF-8": (b'{"\xff": 1}', "no valid JSON"),
    "no table": (b"[]", "no table of tensors"),
    "deep": (b"[" * 100_000, "no valid JSON"),
    "metadata": ({"__metadata__": {"format": 1}, "a": A}, "__metadata__ is not a table of strings"),
    "an entry of another form": ({"a": [1]}, "tensor a: its entry is not"),
    "a field too many": ({"a": {**A, "offset": 1}}, "tensor a: its entry is not"),
    "negative size": ({"a": entry("F32", [-2], 0, 8)}, r"tensor a: shape \[-2\]"),
    "a size that is true": ({"a": entry("F32", [True, 2], 0, 8)}, "tensor a: shape"),
    "fractional size": ({"a": {**A, "shape": [2.0]}}, "tensor a: shape"),
    "three offsets": ({"a": {**A, "data_offsets": [0, 8, 8]}}, "tensor a: shape"),
    "too few bytes": ({"a": entry("F32", [3], 0, 8)}, r"tensor a: F32 \[3\] in 8 bytes"),
    "end before begin": ({"a": entry("F32", [2], 8, 0)}, r"tensor a: F32 \[2\] in -8 bytes"),
    "overlapping": ({"a": A, "b": entry("F32", [1], 4, 8)}, "tensor b overlaps the one before it"),
    "the same bytes twice": ({"a": A, "b": A}, "tensor b overlaps the one before it"),
    "gap": ({"a": entry("F32", [1], 4, 8)}, "tensor a follows a gap"),
    "beyond the file": ({"a": entry("F32", [4], 0, 16)}, "tensor a ends 8 bytes after the file"),
    "unlisted bytes": ({"a": entry("F32", [1], 0, 4)}, "4 bytes after its last tensor"),
    "two of one name": (b'{"a": %s, "a": %s}' % ((json.dumps(A).encode(),) * 2), "'a' occurs twice"),
}


@pytest.mark.parametrize(("header", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_header_is_refused(header: dict[str, object] | bytes, message: str, tmp_path: Path) -> None:
    path = write_parts(tmp_path / "model.safetensors", header, bytes(8))
    with pytest.raises(
        QuantError, match=rf"model\.safetensors is damaged or cut short \(.*{message}.*download it again"
    ):
        read_header(path)


@pytest.mark.parametrize("dtype", ["F4", "float32", 3])
def test_an_unknown_dtype_is_refused_with_its_tensor(dtype: object, tmp_path: Path) -> None:
    path = write_parts(tmp_path / "model.safetensors", {"a": {**A, "dtype": dtype}}, bytes(8))
    with pytest.raises(QuantError, match=rf"tensor a has the unknown dtype {dtype!r}.*pass a float checkpoint"):
        read_header(path)


@pytest.mark.parametrize("length", [10**6, 2**63], ids=["longer than the file", "absurd"])
def test_a_length_beyond_the_file_is_refused(length: int, tmp_path: Path) -> None:
    path = write_parts(tmp_path / "model.safetensors", {"a": A}, bytes(8), length=length)
    with pytest.raises(QuantError, match=f"a header of {length} bytes in a file of"):
        read_header(path)


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    """Cut at any byte, from the last one to the first."""
    path = write_parts(tmp_path / "model.safetensors", {"a": A, "b": entry("I8", [3], 8, 11)}, bytes(11))
    content = path.read_bytes()
    assert len(read_header(path).tensors) == 2
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(QuantError, match="is damaged or cut short"):
            read_header(path)


def test_appended_bytes_are_refused(tmp_path: Path) -> None:
    path = write_parts(tmp_path / "model.safetensors", {"a": A}, bytes(8))
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(QuantError, match="1 bytes after its last tensor"):
        read_header(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"missing\.safetensors cannot be read \(No such file"):
        read_header(tmp_path / "missing.safetensors")
    with pytest.raises(QuantError, match="cannot be read"):
        read_header(tmp_path)
