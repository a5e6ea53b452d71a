"""What the ratios name is what there is to run: where a benchmark is renamed alone, its ratio would be held no more."""

import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.pairs import all_pairs

ROOT = Path(__file__).parents[3]


def test_both_benchmarks_of_every_pair_are_collected_where_timings_are_taken() -> None:
    options = ["--collect-only", "-q", "--benchmark-only", "-n", "0", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    command = [sys.executable, "-m", "pytest", "tests/benchmarks", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    collected = {line for line in done.stdout.splitlines() if line.startswith("tests/benchmarks/")}
    named = {name for pair in all_pairs() for name in (pair.numerator, pair.denominator)}
    assert named
    assert collected
    assert named - collected == set()
