"""What the kernels are on a GPU: compiled for three generations, they fit its memory, spill nothing, use its tensor
cores and round where the specification rounds.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from quant.kernels import cuda

SHARED = {80: 163, 90: 227, 100: 227}
"""Compute capability, times ten -> KiB of shared memory that a block may have (CUDA C++ Programming Guide, "Technical
Specifications per Compute Capability")."""
SHARED_ON_ALL = 99
"""KiB on the other GPUs from 8.0 on, which run the code for 8.0."""
REGISTERS = 65536
"""Of a multiprocessor."""
BLOCKS = {"_fixed_point": 8, "_one_row": 8, "_few_rows": 5, "_rows": 1, "_many_rows": 2}
"""Blocks whose registers must fit a multiprocessor at once. Kernels that wait for memory need many warps to hide it,
those of tensor cores keep several tiles in flight by themselves."""
CALL = 8
"""Bytes of stack for the slow path of a float64 division, which is a call. Spilled registers would be more."""
EXACT = ("_fixed_point", "_one_row", "_few_rows", "_rows")
CASES = (
    *("w8a16, 1 row", "w8a16, 16 rows", "w8a16, 64 rows", "w8a16, 512 rows"),
    *("nf4, 1 row", "nf4-dq, 4 rows", "int4, 512 rows", "nf4-dq, 512 rows"),
)


@pytest.fixture(scope="module")
def machine_code() -> list[dict[str, Any]]:
    """What `tests.unit.cuda.compiled` prints."""
    if not cuda.has_triton():
        pytest.skip("Triton (3.7) is not installed: it is published for Linux only")
    command = [sys.executable, "-m", "tests.unit.cuda.compiled"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("case", CASES)
def test_kernels_fit_and_round_as_specified(case: str, capability: int, machine_code: list[dict[str, Any]]) -> None:
    codes = [code for code in machine_code if (code["case"], code["capability"]) == (case, capability)]
    assert codes[-1]["kernel"] in BLOCKS
    for code in codes:
        instructions = " ".join(code["instructions"])
        assert code["shared_bytes"] <= 1024 * SHARED[capability]
        assert code["REG"] * 32 * code["num_warps"] * BLOCKS[code["kernel"]] <= REGISTERS
        assert code["STACK"] <= CALL
        assert code["LOCAL"] == 0
        assert code["enable_fp_fusion"] is False
        assert ".ftz" not in instructions
        if code["kernel"] in EXACT:
            # `mul.rn` and `add.rn` are never contracted to a fused multiply-add, `mul` and `add` may be.
            contracted = {f"{name}.{dtype}" for name in ("mul", "add", "sub") for dtype in ("f32", "f64")}
            assert not contracted & set(code["instructions"])
            assert ("fma.rn.f32" in instructions) is (code["kernel"] == "_few_rows")


@pytest.mark.parametrize("capability", SHARED)
def test_tensor_cores_multiply_int8_and_memory_is_read_ahead(
    capability: int, machine_code: list[dict[str, Any]]
) -> None:
    tiles = [code for code in machine_code if code["kernel"] == "_rows" and code["capability"] == capability]
    assert len(tiles) == 3
    for code in tiles:
        instructions = code["instructions"]
        assert any("mma" in name and name.endswith(("s32.s8.s8.s32", "s32.s8.s8")) for name in instructions)
        assert any(name.startswith("cp.async") for name in instructions)


def test_code_for_8_0_fits_the_other_gpus_that_run_it(machine_code: list[dict[str, Any]]) -> None:
    assert all(code["shared_bytes"] <= 1024 * SHARED_ON_ALL for code in machine_code if code["capability"] == 80)
