"""Where reports go: targets are refused up front, files are whole or absent, and a full disk is one line."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from quant.errors import QuantError
from quant.report.files import REPORT_NAMES, check_file, check_folder, check_targets, write_files, write_reports


def files_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


OLD = {name: f"old {name}" for name in REPORT_NAMES}
NEW = {name: f"new {name}" for name in REPORT_NAMES}


def in_report(contents: dict[str, str]) -> dict[str, str]:
    """As `files_in` shows them."""
    assert set(contents) == {"report.html", "report.json", "report.md"}
    return {f"report/{name}": content for name, content in contents.items()}


def test_all_files_are_written_and_nothing_else(tmp_path: Path) -> None:
    check_targets(tmp_path / "out.json", tmp_path / "report")
    write_reports(tmp_path / "out.json", tmp_path / "report", "record", OLD)
    assert files_in(tmp_path) == {"out.json": "record", **in_report(OLD)}
    check_targets(tmp_path / "out.json", tmp_path / "report")
    write_reports(None, tmp_path / "report", "new record", NEW)
    assert files_in(tmp_path) == {"out.json": "record", **in_report(NEW)}
    check_targets(None, None)
    write_reports(None, None, "record", OLD)


def test_any_files_are_written_together(tmp_path: Path) -> None:
    write_files({tmp_path / "plan.json": "ä", tmp_path / "figure.png": b"\x89\xff"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "plan.json": "ä".encode(),
        "figure.png": b"\x89\xff",
    }
    with pytest.raises(QuantError, match=r"the report cannot be written .*: make room or name another place"):
        write_files({tmp_path / "plan.json": "new", tmp_path / "missing" / "figure.png": b"new"})
    assert (tmp_path / "plan.json").read_text(encoding="utf-8") == "ä"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)], ids=oct)
def test_new_files_follow_the_umask_and_old_ones_keep_their_permissions(tmp_path: Path, umask: int, mode: int) -> None:
    (tmp_path / "old.json").touch(0o640)
    (tmp_path / "old.json").chmod(0o640)
    before = os.umask(umask)
    try:
        for name in ("new.json", "old.json"):
            write_reports(tmp_path / name, None, "record", OLD)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new.json", "old.json")] == [mode, 0o640]


@pytest.mark.parametrize(
    ("json_file", "report", "message"),
    [
        ("missing/out.json", None, "--json .*the folder .*missing does not exist"),
        ("file/out.json", None, "--json .*the folder .*file does not exist"),
        ("folder", None, "--json .*folder is a folder: name a file"),
        (None, "missing/report", "--report .*the folder .*missing does not exist"),
        (None, "file", "--report .*file is a file: name a folder"),
        (None, "taken", r"--report .*report\.md is a folder"),
        ("dangling", None, "--json .*the folder .*missing does not exist"),
    ],
)
def test_targets_that_cannot_work_are_refused(
    tmp_path: Path, json_file: str | None, report: str | None, message: str
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "missing" / "out.json")
    with pytest.raises(QuantError, match=message):
        check_targets(
            None if json_file is None else tmp_path / json_file, None if report is None else tmp_path / report
        )


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_folder_without_the_right_to_write_is_refused(
    tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights do not bind root, whom tests may run as."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    targets = (tmp_path / "out.json", None) if option == "--json" else (None, tmp_path)
    with pytest.raises(QuantError, match=f"{option} .*cannot be written to"):
        check_targets(*targets)


def failing(call: Callable[..., object], after: int) -> Callable[..., object]:
    """`call`, but the disk is full after so many calls."""
    left = [after]

    def limited(*args: object, **kwargs: object) -> object:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/where")
        left[0] -= 1
        return call(*args, **kwargs)

    return limited


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_is_one_line_and_changes_nothing(
    tmp_path: Path, existing: bool, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are complete before the first one takes its place."""
    if existing:
        write_reports(tmp_path / "out.json", tmp_path / "report", "old", OLD)
    before = files_in(tmp_path)
    monkeypatch.setattr(tempfile, "mkstemp", failing(tempfile.mkstemp, after))
    with pytest.raises(QuantError, match=r"the report cannot be written .*No space left.*: make room or name another"):
        write_reports(tmp_path / "out.json", tmp_path / "report", "record", NEW)
    assert files_in(tmp_path) == before
    assert (tmp_path / "report").exists() is existing


def test_a_disk_that_fails_between_two_files_leaves_each_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renames come one after the other: what was renamed is new, the rest as it was."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    renamed: list[Path] = []

    def replace(self: Path, target: Path) -> Path:
        if renamed:
            raise OSError(errno.EIO, "Input/output error")
        renamed.append(target)
        return self.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(QuantError, match="cannot be written"):
        write_files({tmp_path / "a": "new", tmp_path / "b": "new"})
    assert files_in(tmp_path) == {"a": "new", "b": "old"}


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_a_name_that_no_file_can_have_is_refused(check: Callable[[str, Path], None], tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"^--out .*\.\.\.: File name too long: name another$"):
        check("--out", tmp_path / ("x" * 256))


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    check_file("--json", path)
    write_files({path: "content"})
    assert files_in(tmp_path) == {"x" * 255: "content"}


def test_a_file_of_the_report_is_not_the_record_s_too(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"--report .*report\.html is the file of --json too: name another"):
        check_targets(tmp_path / "report.html", tmp_path)
    check_targets(tmp_path / "other.html", tmp_path)
