"""What the kernels are on a GPU: compiled for three generations, they fit its memory, spill nothing, use its tensor
cores and round where the specification rounds.
"""

import functools
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from quant.kernels import cuda

SHARED = {80: 99, 90: 227, 100: 227}
"""Compute capability, times ten -> KiB of shared memory that a block may have (CUDA C++ Programming Guide, "Technical
Specifications per Compute Capability"): for 8.0 those of 8.6 and 8.9, which run the same code and have less than 8.0's
163. 12.0, which has 99 too, was compiled by hand (Triton 3.7.1): 88 KiB and 238 registers at most."""
REGISTERS = 65536
"""Of a multiprocessor."""
BLOCKS = {"_fixed_point": 8, "_one_row": 8, "_few_rows": 5, "_rows": 1, "_many_rows": 2}
"""Blocks whose registers must fit a multiprocessor at once. Kernels that wait for memory need many warps to hide it,
those of tensor cores keep several tiles in flight by themselves."""
CALL = 8
"""Bytes of stack for the slow path of a float64 division, which is a call. Spilled registers would be more."""
EXACT = ("_fixed_point", "_one_row", "_few_rows", "_rows")
CONTRACTED = {f"{name}.{dtype}" for name in ("mul", "add", "sub") for dtype in ("f32", "f64")}
"""Instructions that the assembler may join to a fused multiply-add, as it may not `mul.rn` and `add.rn`."""

MachineCode = list[dict[str, Any]]

# Three compilers' worth of CPU time, in the first test.
pytestmark = pytest.mark.slow


@functools.cache
def compiled() -> MachineCode:
    """What `tests.unit.cuda.compiled` prints."""
    command = [sys.executable, "-m", "tests.unit.cuda.compiled", *map(str, SHARED)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: MachineCode = json.loads(done.stdout)
    return found


@pytest.fixture(params=SHARED, ids=lambda capability: f"sm_{capability}")
def capability(request: pytest.FixtureRequest) -> int:
    if not cuda.has_triton():
        pytest.skip("Triton (3.7) is not installed: it is published for Linux only")
    return int(request.param)


def compiled_for(capability: int) -> MachineCode:
    return [code for code in compiled() if code["capability"] == capability]


def test_all_kernels_fit_and_round_as_specified(capability: int) -> None:
    codes = compiled_for(capability)
    assert {code["kernel"] for code in codes} == set(BLOCKS)
    for code in codes:
        instructions = " ".join(code["instructions"])
        assert code["shared_bytes"] <= 1024 * SHARED[capability], code
        assert code["REG"] * 32 * code["num_warps"] * BLOCKS[code["kernel"]] <= REGISTERS, code
        assert code["STACK"] <= CALL, code
        assert code["LOCAL"] == 0, code
        assert code["enable_fp_fusion"] is False, code
        assert ".ftz" not in instructions, code
        if code["kernel"] in EXACT:
            assert not CONTRACTED & set(code["instructions"]), code
            assert ("fma.rn.f32" in instructions) is (code["kernel"] == "_few_rows"), code


def test_tensor_cores_multiply_int8_and_memory_is_read_ahead(capability: int) -> None:
    tiles = [code for code in compiled_for(capability) if code["kernel"] == "_rows"]
    assert len(tiles) == 3
    for code in tiles:
        instructions = code["instructions"]
        # Of a warp, of a warp group, or of a block (10.0, from Triton 3.9).
        assert any("mma" in name and name.endswith(("s32.s8.s8.s32", "s32.s8.s8", "kind::i8")) for name in instructions)
        assert any(name.startswith("cp.async") for name in instructions)
