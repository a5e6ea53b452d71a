"""Resident memory of conversions, in this process: `python -m tests.unit.checkpoint.memory FOLDER`.

Prints JSON: bytes before the first conversion, and the peak since the process began after each of `SIZES`. Weights are
zeros in files with holes, which read like any and take no disk.
"""

import json
import os
import sys
from pathlib import Path

import psutil
import torch

from quant.checkpoint.folder import SINGLE, open_checkpoint
from quant.checkpoint.layout import lay_out
from quant.checkpoint.plan import OutputTensor, Plan
from quant.checkpoint.quantizing import quantize_job
from quant.checkpoint.run import run
from quant.schemes import NF4

COLUMNS = 4096
SIZES = {"wide": (1, 32768), "deep": (32, 1024)}
"""Layers, and rows of each: one matrix of 256 MiB in bfloat16, and as many bytes in 32 of them."""


def convert(folder: Path, layers: int, rows: int) -> None:
    """Make a checkpoint of zeros and quantize it."""
    folder.mkdir()
    tensors = [OutputTensor(SINGLE, f"{index}.weight", torch.bfloat16, (rows, COLUMNS)) for index in range(layers)]
    layout = lay_out(SINGLE, tensors)
    (folder / SINGLE).write_bytes(layout.header)
    os.truncate(folder / SINGLE, layout.size)
    checkpoint = open_checkpoint(folder)
    jobs = tuple(
        quantize_job(stored, name.removesuffix(".weight"), NF4(), torch.bfloat16, transposed=False)
        for name, stored in checkpoint.tensors.items()
    )
    run(Plan(jobs, sharded=False, settings={}), checkpoint, folder.with_name(f"{folder.name}-out"))


def peak() -> int:
    """Bytes that were resident at most since the process began."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Convert each of `SIZES` and print what it took."""
    convert(Path(sys.argv[1]) / "warm-up", 1, 16)
    record = {"before": psutil.Process().memory_info().rss}
    for name, (layers, rows) in SIZES.items():
        convert(Path(sys.argv[1]) / name, layers, rows)
        record[name] = peak()
    sys.stdout.write(json.dumps(record))


if __name__ == "__main__":
    main()
