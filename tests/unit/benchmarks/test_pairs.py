"""What the ratios name is what there is to run: where a benchmark is renamed alone, its ratio would be held no more.

And those that are held on every machine are the ones that docs/benchmarks.md has grounds for.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quant import native
from tests.benchmarks.pairs import all_pairs
from tests.gpu.pairs import gpu_pairs

ROOT = Path(__file__).parents[3]
HELD_EVERYWHERE = {
    "qkv, 1 rows: w8a16 / linear-bf16",
    "qkv, 1 rows: nf4 / linear-bf16",
    "qkv, 1 rows: nf4-dq / linear-bf16",
    "qkv, 1 rows: int4 / linear-bf16",
    "qkv, 1 rows: w8a16-fp32 / linear-fp32",
    "qkv, 1 rows: nf4-fp32 / linear-fp32",
    "o, 1 rows: w8a16 / linear-bf16",
    "o, 1 rows: nf4 / linear-bf16",
    "o, 1 rows: nf4-dq / linear-bf16",
    "o, 1 rows: int4 / linear-bf16",
    "o, 1 rows: w8a16-fp32 / linear-fp32",
    "o, 1 rows: nf4-fp32 / linear-fp32",
    "gate_up, 1 rows: w8a16 / linear-bf16",
    "gate_up, 1 rows: nf4 / linear-bf16",
    "gate_up, 1 rows: nf4-dq / linear-bf16",
    "gate_up, 1 rows: int4 / linear-bf16",
    "gate_up, 1 rows: w8a16-fp32 / linear-fp32",
    "gate_up, 1 rows: nf4-fp32 / linear-fp32",
    "down, 1 rows: w8a16 / linear-bf16",
    "down, 1 rows: nf4 / linear-bf16",
    "down, 1 rows: nf4-dq / linear-bf16",
    "down, 1 rows: int4 / linear-bf16",
    "down, 1 rows: w8a16-fp32 / linear-fp32",
    "down, 1 rows: nf4-fp32 / linear-fp32",
    "quantizing to w8a16 from float32: native / torch",
    "quantizing to w8a16 from bfloat16: native / torch",
    "quantizing to nf4 from float32: native / torch",
    "quantizing to nf4 from bfloat16: native / torch",
}
"""With AVX-512: one row beside the float layer of its dtype, and quantizing beside torch's operations."""


def test_both_benchmarks_of_every_pair_are_collected_where_timings_are_taken() -> None:
    """Those on a GPU too, by one process for both."""
    options = ["--collect-only", "-q", "--benchmark-only", "-n", "0", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    command = [sys.executable, "-m", "pytest", "tests/benchmarks", "tests/gpu/test_speed.py", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    collected = {line for line in done.stdout.splitlines() if line.startswith("tests/")}
    for pairs in (all_pairs(), gpu_pairs()):
        named = {name for pair in pairs for name in (pair.numerator, pair.denominator)}
        assert named
        assert named - collected == set()


def held_everywhere() -> dict[str, float]:
    """Name -> limit of the pairs that have one on every machine."""
    return {pair.name: pair.portable for pair in all_pairs() if pair.portable is not None}


def test_these_ratios_and_no_others_are_held_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "variant", lambda: "avx512")
    assert held_everywhere() == dict.fromkeys(HELD_EVERYWHERE, 1.0)


@pytest.mark.parametrize("variant", ["avx2", "neon", "portable", "torch"])
def test_nothing_is_claimed_of_kernels_that_nobody_has_measured(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "variant", lambda: variant)
    assert held_everywhere() == {}
