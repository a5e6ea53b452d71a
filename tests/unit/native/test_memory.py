"""A forward makes no copy of the weight: its peak of memory grows by activations and a few panels, and no more.

A process of its own measures, with the kernel's count of the most memory it ever had (VmHWM), which writing 5 to
/proc/self/clear_refs sets back to what it has now. The way through torch, which does copy the weight as float32, is
measured alike: there the growth must show.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WIDTH = 4096
ROWS = (1, 64)
THREADS = 2
SCHEMES = ("W8A16", "NF4")
FLOAT32 = WIDTH * WIDTH * 4

PROGRAM = """
import json, sys
import torch, quant
from quant import native

width, rows, threads, schemes = json.loads(sys.argv[1])
torch.set_num_threads(threads)

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024

def growth(layer, x):
    layer(x)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = peak()
    layer(x)
    return peak() - before

torch.manual_seed(0)
linear = torch.nn.Linear(width, width, bias=False)
grown = {}
for name in schemes:
    layer = quant.quantize(torch.nn.Sequential(linear), getattr(quant, name)())[0]
    for m in rows:
        x = torch.randn(m, width)
        for variant in (*native.supported(), "torch"):
            with native.override(variant), torch.inference_mode():
                grown[f"{name} {m} {variant}"] = growth(layer, x)
print(json.dumps(grown))
"""


def bound(rows: int) -> int:
    """Bytes: the outputs, activations in fixed point, and what each thread widens, as `prepare` in driver.c has it: a
    panel of 32 rows of the weight as int16, a float for each 16 of their elements, and a sum of 64 bits per output.
    """
    outputs, activations = rows * WIDTH * 4, rows * (WIDTH * 2 + 12)
    panel = 32 * (WIDTH * 2 + WIDTH // 16 * 4 + rows * 8)
    return outputs + activations + THREADS * panel + 2**20  # pages, and stacks of threads


@pytest.fixture(scope="module")
def grown() -> dict[str, int]:
    """Bytes by which the peak grew: by scheme, rows and variant."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"peaks of memory cannot be set back here: {error}")
    arguments = json.dumps([WIDTH, ROWS, THREADS, SCHEMES])
    # Memory that glibc keeps after the warm-up would hide a copy: with this, it returns what is larger.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", PROGRAM, arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_forward_allocates_no_copy_of_the_weight(grown: dict[str, int], scheme: str, rows: int, variant: str) -> None:
    packed = WIDTH * WIDTH // 2
    assert bound(rows) < packed / 2
    assert grown[f"{scheme} {rows} {variant}"] <= bound(rows)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_measurement_sees_the_copy_that_torch_s_way_makes(grown: dict[str, int], scheme: str, rows: int) -> None:
    assert grown[f"{scheme} {rows} torch"] >= FLOAT32
