"""Reports as files: the targets are checked before hours of measuring, and each is written whole or not at all.

All files are first written beside their targets, and renamed one after the other when all are complete: a full disk
leaves what was there before, and a machine that stops between two renames leaves old files beside new ones, none of
them in part. A link is followed; a pipe or a device is written to last, not replaced.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from quant.errors import QuantError

REPORT_NAMES = ("report.html", "report.json", "report.md")


def check_targets(json_file: Path | None, report: Path | None) -> None:
    """Check that `write_reports` will be able to write there.

    Raises:
        QuantError: what `check_file` and `check_folder` refuse, or one file twice.
    """
    if json_file is not None:
        check_file("--json", json_file)
    if report is None:
        return
    if report.is_dir():
        for name in REPORT_NAMES:
            check_file("--report", report / name)
    else:
        check_folder("--report", report)
    of_report = [("--report", report / name) for name in REPORT_NAMES]
    check_different(of_report if json_file is None else [("--json", json_file), *of_report])


def check_different(targets: Iterable[tuple[str, Path]]) -> None:
    """targets: options and the files that they name.

    Raises:
        QuantError: two options name the same file.
    """
    taken: dict[Path, str] = {}
    for option, path in targets:
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise QuantError(f"{option} {path} is the file of {other} too: name another")


def check_file(option: str, path: Path) -> None:
    """Check that `write_files` will be able to write `path`, the value of `option`.

    Raises:
        QuantError: no such folder, or no right to write to it; a folder where a file is to be; a name that is too long.
    """
    _check_name(option, path)
    if path.is_dir():
        raise QuantError(f"{option} {path} is a folder: name a file")
    if _is_special(path):
        if not os.access(path, os.W_OK):
            raise QuantError(f"{option} {path} cannot be written to: name a file")
    else:
        _check_folder(option, path, path.resolve().parent)


def _check_name(option: str, path: Path) -> None:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except OSError as error:
        raise QuantError(f"{option} {str(path)[:80]}...: {error.strerror}: name another") from error


def _check_folder(option: str, path: Path, folder: Path) -> None:
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise QuantError(f"{option} {path}: the folder {folder} does not exist or cannot be written to: name another")


def check_folder(option: str, folder: Path) -> None:
    """Check that `write_files` will be able to make `folder`, the value of `option`, or to write into it.

    Raises:
        QuantError: it is a file, there is no folder to make it in, no right to write there, or its name is too long.
    """
    _check_name(option, folder)
    if folder.exists() and not folder.is_dir():
        raise QuantError(f"{option} {folder} is a file: name a folder")
    _check_folder(option, folder, folder if folder.exists() else folder.resolve().parent)


def write_reports(json_file: Path | None, report: Path | None, record: str, contents: Mapping[str, str]) -> None:
    """Write `record` to `json_file`, and `contents`, name -> content of some of `REPORT_NAMES`, to the folder `report`.

    Raises:
        QuantError: the disk is full, a folder has gone; nothing is left behind.
    """
    files: dict[Path, str | bytes] = {} if json_file is None else {json_file: record}
    if report is not None:
        files.update({report / name: content for name, content in contents.items()})
    write_files(files, [] if report is None else [report])


def write_files(contents: Mapping[Path, str | bytes], folders: Sequence[Path] = ()) -> None:
    """Write all of `contents`, text as UTF-8, where `folders` are made first, those that hold others before these.

    Raises:
        QuantError: the disk is full, a folder has gone; nothing is left behind.
    """
    data = {path: text.encode() if isinstance(text, str) else text for path, text in contents.items()}
    made = [folder for folder in folders if not folder.exists()]
    try:
        for folder in made:
            folder.mkdir(exist_ok=True)
        with _temporaries(data) as written:
            for temporary, path in written.items():
                temporary.replace(path)
        for path in filter(_is_special, data):
            path.write_bytes(data[path])
    except BaseException as error:
        for folder in reversed(made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise _unwritable(error) from error
        raise


def _unwritable(error: OSError) -> QuantError:
    return QuantError(f"the report cannot be written ({error}): make room or name another place")


@contextmanager
def _temporaries(contents: Mapping[Path, bytes]) -> Iterator[dict[Path, Path]]:
    """Complete temporary files for the regular files in `contents` -> the files they are for; removed afterwards."""
    written: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            if _is_special(path):
                continue
            target = path.resolve()
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".quant.")
            written[Path(name)] = target
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        yield written
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """What the process takes from the permissions of new files; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
