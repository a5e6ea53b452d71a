"""No kernel reads or writes outside of its operands, none does what C leaves undefined, and none reads memory that it
has not written: gcc's AddressSanitizer and UndefinedBehaviorSanitizer watch `fuzz.py` call all of them.

What a fresh allocation holds is chosen, once all zeros and once all ones: results that differ come from memory that
was never written. They are also the same for every variant, faults or none.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quant import native
from tests.unit.native import fuzz

SOURCES = sorted((Path(native.__file__).parent / "csrc").glob("*.c"))
# Calls in place of inlined checks, and line numbers without variables, compile in a third of the time.
QUICK = ("-O1", "-g1", "--param", "asan-instrumentation-with-call-threshold=0")
SANITIZERS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
LANGUAGE = ("-std=c11", "-ffp-contract=off", "-fPIC", "-DPy_LIMITED_API=0x030A0000")


@pytest.fixture(scope="module")
def runtime() -> str:
    """AddressSanitizer's library, which has to be loaded before Python."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc on PATH")
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    path = library.stdout.strip()
    if not os.path.isabs(path):
        pytest.skip("this gcc has no libasan")
    return path


@pytest.fixture(scope="module")
def folder(runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `_kernels` lies, compiled with sanitizers, one file per CPU at a time."""
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").exists():
        pytest.skip(f"there is no Python.h in {include}")
    target = tmp_path_factory.mktemp("sanitized")

    def compile_one(source: Path) -> Path:
        output = target / f"{source.stem}.o"
        gcc("-c", str(source), *QUICK, *LANGUAGE, f"-I{include}", "-o", str(output))
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The one that takes longest goes first.
        objects = list(pool.map(compile_one, sorted(SOURCES, key=lambda source: source.stem != "portable")))
    gcc("-shared", *map(str, objects), "-lm", "-o", str(target / "_kernels.abi3.so"))
    return target


def gcc(*arguments: str) -> None:
    result = subprocess.run(["gcc", *SANITIZERS, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def run(runtime: str, folder: Path, *fault: str, fill: int = 0) -> "subprocess.CompletedProcess[str]":
    """`fuzz.py` under the sanitizers; new memory holds the byte `fill`."""
    asan = f"detect_leaks=0:max_malloc_fill_size={2**30}:malloc_fill_byte={fill}"
    environment = os.environ | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": asan}
    command = [sys.executable, fuzz.__file__, str(folder), *fault]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow  # with the compilation, measured: 20 s
def test_the_sanitizers_find_nothing_and_no_result_depends_on_what_memory_held(runtime: str, folder: Path) -> None:
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda fill: run(runtime, folder, fill=fill), (0, 255)))
    for result in results:
        assert result.returncode == 0, result.stderr
    reports: list[dict[str, Any]] = [json.loads(result.stdout) for result in results]
    assert reports[0] == reports[1]
    calls = reports[0]["calls"]
    assert set(native.supported()) <= set(calls)
    shapes = fuzz.ROUNDS + len(fuzz.LARGE)
    for done in calls.values():
        assert done["linear_int8"] + done["linear_blockwise"] == shapes + 4
        assert min(done["linear_int8"], done["linear_blockwise"]) > shapes / 3
        assert done["quantize_int8"] == done["quantize_blocks"] == shapes
    assert len(set(reports[0]["digests"].values())) == 1


@pytest.mark.parametrize("operand", ["x", "codes", "packed", "y", "int8"])
def test_an_operand_that_is_one_byte_short_is_reported(runtime: str, folder: Path, operand: str) -> None:
    result = run(runtime, folder, "short", operand)
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
    assert "/csrc/" in result.stderr


def test_an_operand_that_is_not_aligned_is_reported(runtime: str, folder: Path) -> None:
    result = run(runtime, folder, "moved", "x")
    assert result.returncode != 0
    assert "misaligned address" in result.stderr
