"""What the system says: memory of this process, and which part of a file is in the page cache."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Of the repository, where processes are started."""


def memory() -> dict[str, int]:
    """Bytes of this process: the most it ever had in memory, and what it has now, apart by whether it is its own or
    pages of files, which the system can drop and read again.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return {
        "peak": 1024 * kilobytes["VmHWM"],
        "anonymous": 1024 * kilobytes["RssAnon"],
        "file": 1024 * kilobytes["RssFile"],
    }


def cached_share(paths: Sequence[Path]) -> float | None:
    """Of these files, the share of bytes that reading takes from memory; None where `fincore` is not installed."""
    command = shutil.which("fincore")
    if command is None:
        return None
    listed = subprocess.run(
        [command, "--bytes", "--noheadings", "--output", "RES", *map(str, paths)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return min(1.0, sum(map(int, listed.stdout.split())) / sum(path.stat().st_size for path in paths))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint."""
    return sorted(folder.glob("*.safetensors"))
