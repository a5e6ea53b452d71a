"""The study's files: their folder is checked before anything is measured, and each takes its place when it is whole."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from quant.errors import QuantError


def check_folder(out: Path) -> None:
    """Check that files can be written to `out`, which is made where its parent is there.

    Raises:
        QuantError: it cannot.
    """
    folder = out if out.exists() else out.resolve().parent
    if not folder.is_dir():
        raise QuantError(f"--out {out}: {folder} is no folder: name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise QuantError(f"--out {out}: the folder {folder} cannot be written to: name another")


def write_files(out: Path, contents: Mapping[str, str]) -> list[Path]:
    """Write each text to its path below `out`, replacing what is there; returns the paths, in order.

    Raises:
        QuantError: the disk is full, or something else is in the way.
    """
    written = []
    try:
        out.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".study.") as scratch:
            for name, text in contents.items():
                whole = Path(scratch) / "file"
                whole.write_text(text, encoding="utf-8", newline="\n")
                target = out / name
                target.parent.mkdir(exist_ok=True)
                whole.replace(target)
                written.append(target)
    except OSError as error:
        raise QuantError(f"the study cannot be written to {out} ({error}): make room or name another place") from error
    return written
