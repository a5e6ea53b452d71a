"""Memory of this process, and what of files is cached."""

import mmap
from pathlib import Path

import pytest

from tests.full_size.system import cached_share, memory

PLANTED = 100 * 2**20


def test_memory_shows_an_allocation_as_the_process_s_own() -> None:
    before = memory()
    # A mapping of its own: what malloc gives may have been this process's before.
    with mmap.mmap(-1, PLANTED, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * PLANTED)
        after = memory()
    assert PLANTED <= after["anonymous"] - before["anonymous"] < PLANTED + 2**24
    assert after["peak"] >= after["anonymous"] + after["file"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """1000 bytes in two files."""
    (tmp_path / "a").write_bytes(bytes(400))
    (tmp_path / "b").write_bytes(bytes(600))
    return [tmp_path / "a", tmp_path / "b"]


@pytest.mark.parametrize(("listed", "share"), [("0\n0", 0.0), ("0\n250", 0.25), ("4096\n4096", 1.0)])
def test_the_share_is_of_all_bytes(
    listed: str, share: float, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pages are cached: more than a file's bytes is all of it."""
    tool = tmp_path / "fincore"
    tool.write_text(f"#!/bin/sh\nprintf '{listed}\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert cached_share(files) == share


def test_without_the_tool_the_share_is_unknown(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert cached_share(files) is None
