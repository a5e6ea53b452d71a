"""What `quant quantize` takes: seconds and peak memory, beside reading the same files, and beside doing nothing.

The process that starts the command must be small and must not have loaded torch: the system counts a child's memory
from the moment before it becomes another program.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.full_size.system import ROOT, cached_share, weight_files

PEAK = "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
BARE = {"interpreter": PEAK, "imports": f"import torch, transformers; {PEAK}"}
"""Programs that print their own peak in kB: what a command takes that does nothing."""


def quantize_command(folder: Path, out: Path, scheme: str) -> list[str]:
    """The command line that is measured."""
    return [sys.executable, "-m", "quant", "quantize", str(folder), str(out), "--scheme", scheme]


def measure_quantizing(folder: Path, out: Path, scheme: str) -> dict[str, Any]:
    """Read the weights of `folder`, then quantize them into `out`, which is removed before.

    Returns read_seconds: of reading into nowhere, with the cached_share of the files before; seconds: of the command,
    which ends when everything is on the disk; peak_bytes: of the command, and of `BARE`; bytes_in, bytes_out: of the
    weight files.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    files = weight_files(folder)
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"cached_share": cached_share(files)}
    with Path(os.devnull).open("wb") as nowhere:
        record["read_seconds"], _ = run(["cat", *map(str, files)], nowhere.fileno())
    record["seconds"], record["peak_bytes"] = run(quantize_command(folder, out, scheme), sys.stderr.fileno())
    return record | {
        "bare_bytes": {name: bare_peak(program) for name, program in BARE.items()},
        "bytes_in": sum(file.stat().st_size for file in files),
        "bytes_out": sum(file.stat().st_size for file in weight_files(out)),
    }


def run(command: Sequence[str], stdout: int) -> tuple[float, int]:
    """Seconds of a command and the most bytes it had in memory.

    Raises:
        subprocess.CalledProcessError: its exit code is not 0.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=stdout, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, 1024 * usage.ru_maxrss


def bare_peak(program: str) -> int:
    """Bytes that a Python program says it had in memory at most."""
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return 1024 * int(printed)
