"""Resident memory of conversions, in this process: `python -m tests.unit.checkpoint.memory FOLDER`.

Prints JSON: bytes before the first conversion, and the peak since the process began after each of `CASES`, in their
order. Weights are zeros in files with holes, which read like any and take no disk.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from quant.checkpoint.folder import SINGLE, open_checkpoint
from quant.checkpoint.layout import lay_out
from quant.checkpoint.plan import OutputTensor, Plan
from quant.checkpoint.run import run
from quant.checkpoint.tensor_jobs import quantize_job
from quant.schemes import NF4

COLUMNS = 4096
BLOCK = 32
"""The smallest there is, whose absmax values are the most."""


@dataclass(frozen=True)
class Case:
    """So many layers of so many rows, in bfloat16, to `scheme`."""

    layers: int
    rows: int
    scheme: NF4

    @property
    def elements(self) -> int:
        return self.layers * self.rows * COLUMNS


CASES = {
    "many": Case(64, 1024, NF4(BLOCK)),
    "one": Case(1, 65536, NF4(BLOCK)),
    "one, double": Case(1, 65536, NF4(BLOCK, double_quant=True)),
}
"""512 MiB in many matrices, and in one."""


def convert(folder: Path, case: Case) -> None:
    """Make a checkpoint of zeros and quantize it."""
    folder.mkdir()
    shape = (case.rows, COLUMNS)
    layout = lay_out([OutputTensor(SINGLE, f"{index}.weight", torch.bfloat16, shape) for index in range(case.layers)])
    (folder / SINGLE).write_bytes(layout.header)
    os.truncate(folder / SINGLE, layout.size)
    checkpoint = open_checkpoint(folder)
    jobs = tuple(
        quantize_job(stored, name.removesuffix(".weight"), case.scheme, torch.bfloat16, transposed=False)
        for name, stored in checkpoint.tensors.items()
    )
    out = folder.with_name("out")
    run(Plan(jobs, sharded=False, settings={}), checkpoint, out)
    shutil.rmtree(out)


def peak() -> int:
    """Bytes that were resident at most since the process began."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Convert each of `CASES` and print what it took."""
    record = {"before": psutil.Process().memory_info().rss}
    for name, case in CASES.items():
        convert(Path(sys.argv[1]) / name, case)
        record[name] = peak()
    sys.stdout.write(json.dumps(record))


if __name__ == "__main__":
    main()
