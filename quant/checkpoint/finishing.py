"""The last steps of a run before OUT appears: the small files, the index, and the manifest of everything.

Every safetensors file is read back from the disk for its checksums, which must be those of what was computed.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quant.checkpoint.file_io import unwritable
from quant.checkpoint.folder import INDEX
from quant.checkpoint.headers import read_header
from quant.checkpoint.layout import index_text
from quant.checkpoint.manifest import MANIFEST, describe_file, describe_weights, manifest_text
from quant.checkpoint.partial import Partial
from quant.checkpoint.plan import OutputTensor, Plan
from quant.errors import QuantError


def write_small_files(plan: Plan, partial: Partial, advance: Callable[[int], None]) -> None:
    """All files but the weights, and the manifest of all. What an earlier run left and this one has not is removed.

    Args:
        advance: called with the size of each chunk that is read back.

    Raises:
        QuantError: a file cannot be written, or a tensor is not what was written.
    """
    texts = dict(plan.texts)
    if plan.sharded:
        texts[INDEX] = index_text(plan.files)
    for name, source in plan.copies.items():
        with _writing(partial.files / name) as path:
            shutil.copyfile(source, path)
    for name, text in texts.items():
        _write(partial.files / name, text)
    weights = plan.files
    for path in partial.files.iterdir():
        if path.name not in {*weights, *texts, *plan.copies}:
            path.unlink()
    entries = {name: _described(partial, name, weights[name], advance) for name in sorted(weights)}
    entries.update({name: describe_file(partial.files / name) for name in sorted({*texts, *plan.copies})})
    _write(partial.files / MANIFEST, manifest_text(entries))


def _write(path: Path, text: str) -> None:
    with _writing(path):
        path.write_text(text, encoding="utf-8")


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    try:
        yield path
    except OSError as error:
        raise unwritable(f"{path} cannot be written", error) from error


def _described(
    partial: Partial, file: str, tensors: Sequence[OutputTensor], advance: Callable[[int], None]
) -> dict[str, Any]:
    """The manifest's entry for an output file, read back from it and held to what was computed."""
    entry = describe_weights(read_header(partial.files / file), advance)
    for tensor in tensors:
        if entry["tensors"][tensor.name] != partial.journal.finished[tensor.file, tensor.name]:
            raise QuantError(
                f"{partial.files / file}: tensor {tensor.name} is not what was written: the disk or the memory of this "
                "machine is failing"
            )
    return entry
