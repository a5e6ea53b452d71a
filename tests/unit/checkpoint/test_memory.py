"""A conversion's memory does not grow with the model: measured in a process of its own, in resident bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.checkpoint.memory import COLUMNS, SIZES


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.unit.checkpoint.memory", str(tmp_path_factory.mktemp("memory"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=True)
    record: dict[str, int] = json.loads(done.stdout)
    return record


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("size", ["wide", "deep"])
def test_no_copy_of_the_weights_is_held(measured: dict[str, int], size: str) -> None:
    """The smallest there could be are the 4-bit codes, 64 MiB in one matrix as in many; the weights as they are stored
    would be four times as many.
    """
    layers, rows = SIZES[size]
    codes = layers * rows * COLUMNS // 2
    assert measured[size] - measured["before"] < codes
