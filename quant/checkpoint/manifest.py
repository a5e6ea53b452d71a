"""`quant-manifest.json`: the SHA-256 of everything in a converted checkpoint, and proving a folder intact by it.

    {"format_version": 1, "made_by": "quant 0.1.0", "files": {
        "config.json": {"bytes": 700, "sha256": "..."},
        "model.safetensors": {"bytes": ..., "sha256": "...", "header_sha256": "...", "tensors": {"...": "..."}}}}

safetensors itself has no checksum: a flipped bit in the data is another weight, in silence. Sums by file can be held
to `sha256sum`; those by tensor name the one that differs. Both come from one reading, in bounded memory; when a
checkpoint is made, the sums of what was computed are held to what is in the files.

What is not proved: that the manifest itself is the one that was written (whoever can change the files can change it as
well; it is a guard against disks and networks, not against people). Files that are no weights may be added.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.checkpoint.file_io import digest_of, read_chunks
from quant.checkpoint.folder import ADAPTER, WEIGHTS, Checkpoint, is_plain_name, read_json
from quant.checkpoint.headers import Header, read_header
from quant.errors import QuantError
from quant.version import __version__

MANIFEST = "quant-manifest.json"
FORMAT_VERSION = 1
WEIGHT_FILES = ("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth", "*.gguf", ADAPTER)
"""What a loader may take weights from, or be led to them by: may not be there without being in the manifest."""

Watch = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), from any thread."""


@dataclass(frozen=True)
class Verified:
    """What was proved intact: numbers of files, tensors in them and bytes; made_by: the program that wrote them."""

    files: int
    tensors: int
    nbytes: int
    made_by: str


def describe_weights(header: Header, watch: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """The manifest's entry for a safetensors file, from its bytes. watch: called with the size of each chunk read.

    Raises:
        QuantError: the file cannot be read.
    """
    whole, tensors = hashlib.sha256(), {}
    try:
        with header.path.open("rb") as file:
            handle = file.fileno()
            whole.update(file.read(header.data_start))
            watch(header.data_start)
            for tensor in header.tensors.values():
                part = hashlib.sha256()
                for data in read_chunks(handle, tensor.start, tensor.nbytes):
                    whole.update(data)
                    part.update(data)
                    watch(len(data))
                tensors[tensor.name] = part.hexdigest()
    except OSError as error:
        raise QuantError(f"{header.path} cannot be read ({error.strerror}): check the disk") from error
    return {
        "bytes": header.size,
        "sha256": whole.hexdigest(),
        "header_sha256": header.digest,
        "tensors": tensors,
    }


def digest_of_weights(checkpoint: Checkpoint) -> str:
    """Hex SHA-256 of all tensors: names, dtypes, shapes and bytes, however they are spread over files.

    Raises:
        QuantError: a file cannot be read.
    """
    sums: dict[str, str] = {}
    for header in checkpoint.files.values():
        sums.update(describe_weights(header)["tensors"])
    stored = checkpoint.tensors
    lines = (f"{name} {stored[name].dtype} {list(stored[name].shape)} {sums[name]}\n" for name in sorted(sums))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """The manifest's entry for any other file.

    Raises:
        QuantError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return {"bytes": size, "sha256": digest_of(file.fileno(), 0, size)}
    except OSError as error:
        raise QuantError(f"{path} cannot be read ({error.strerror}): check the disk") from error


def manifest_text(files: Mapping[str, Any]) -> str:
    """The manifest as JSON. files: name -> entry."""
    content = {"format_version": FORMAT_VERSION, "made_by": f"quant {__version__}", "files": dict(files)}
    return json.dumps(content, indent=1) + "\n"


def verify(folder: Path, watch: Watch = lambda done, total: None) -> Verified:
    """Prove that every file and tensor in `folder` is what its manifest says.

    Raises:
        QuantError: names the file, and the tensor, that is missing, differs or is not in the manifest; or there is no
            manifest, or one of another format.
    """
    if not os.path.isdir(folder):  # which takes any name
        raise QuantError(f"{folder}: no such folder")
    made_by, files = _read_manifest(folder / MANIFEST)
    for pattern in WEIGHT_FILES:
        for path in sorted(folder.glob(pattern)):
            if path.name not in files:
                raise QuantError(f"{path} is not in {MANIFEST}: it was added later, remove it or do not trust it")
    sizes = {name: _check_size(folder / name, entry) for name, entry in files.items()}
    done, total, tensors = 0, sum(sizes.values()), 0

    def advance(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        watch(done, total)

    for name, entry in files.items():
        if "tensors" in entry:
            header = read_header(folder / name)
            _compare(header, describe_weights(header, advance), entry)
            tensors += len(header.tensors)
        else:
            if describe_file(folder / name)["sha256"] != entry["sha256"]:
                raise _differs(folder / name)
            advance(sizes[name])
    return Verified(len(files), tensors, total, made_by)


def _read_manifest(path: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """(made by, name of file -> entry), every field known to be there."""
    if not path.is_file():
        raise QuantError(f"{path} is missing: only folders that quant quantize or quant convert wrote can be verified")
    content = read_json(path)
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise QuantError(f"{path} is of format {version!r}, this version reads {FORMAT_VERSION}: update quant")
    files = content.get("files")
    if not isinstance(files, dict) or not all(is_plain_name(n) and _is_entry(n, e) for n, e in files.items()):
        raise QuantError(f"{path} is damaged: make the checkpoint again, or fetch the manifest anew")
    return str(content.get("made_by")), files


def _is_entry(name: str, entry: Any) -> bool:
    needed = {"bytes": int, "sha256": str}
    if name.endswith(WEIGHTS):
        needed.update(header_sha256=str, tensors=dict)
    return isinstance(entry, dict) and all(type(entry.get(key)) is kind for key, kind in needed.items())


def _check_size(path: Path, entry: Mapping[str, Any]) -> int:
    if not path.is_file():
        raise QuantError(f"{path} is missing: make or download the checkpoint again")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise QuantError(f"{path} has {size} bytes instead of {entry['bytes']}: make or download the checkpoint again")
    return size


def _compare(header: Header, found: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    if found["header_sha256"] != entry["header_sha256"]:
        raise _differs(header.path, "its header")
    for name, digest in found["tensors"].items():
        if digest != entry["tensors"].get(name):
            raise _differs(header.path, f"tensor {name}")
    if found["sha256"] != entry["sha256"] or found["tensors"].keys() != entry["tensors"].keys():
        raise _differs(header.path)


def _differs(path: Path, what: str = "its content") -> QuantError:
    return QuantError(f"{path}: {what} differs from {MANIFEST}: make or download the checkpoint again")
