"""Memory of this process, and what of files is cached."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.full_size.system import cached_share

PLANTED = 100 * 2**20


ALLOCATED = f"""
import mmap
from tests.full_size.system import memory

before = memory()
with mmap.mmap(-1, {PLANTED}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
    block.write(b"x" * {PLANTED})
    after = memory()
print(after["anonymous"] - before["anonymous"], after["peak"] - after["anonymous"] - after["file"])
"""


def test_memory_shows_an_allocation_as_the_process_s_own() -> None:
    """In a process of its own, where nothing else allocates or frees meanwhile. The bytes that are written are there a
    second time while they are made, but not any more when they are counted.
    """
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATED], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    grown, below_peak = map(int, done.stdout.split())
    assert PLANTED <= grown < PLANTED + 2**24
    assert below_peak >= 0


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
