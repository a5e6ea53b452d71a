"""A conversion's memory grows with neither the model nor its largest tensor: measured in a process of its own, in
resident bytes. Double quantization is the exception, by 4 bytes per block of the largest tensor.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.checkpoint.memory import BLOCK, CASES

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
ABSMAX_BYTES = 4 * CASES["one"].elements // BLOCK
"""Of the absmax values of the one matrix, in float32."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.unit.checkpoint.memory", str(tmp_path_factory.mktemp("memory"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=True)
    record: dict[str, int] = json.loads(done.stdout)
    return record


@pytest.mark.parametrize("case", ["many", "one"])
def test_no_copy_of_the_weights_is_held(measured: dict[str, int], case: str) -> None:
    """The smallest there could be are the 4-bit codes; the weights as they are stored would be four times as many."""
    assert measured[case] - measured["before"] < CASES[case].elements // 2


def test_not_even_the_scales_of_a_tensor_are_held(measured: dict[str, int]) -> None:
    assert measured["one"] - measured["many"] < ABSMAX_BYTES


def test_double_quantization_holds_the_absmax_values_once(measured: dict[str, int]) -> None:
    """Twice would be a copy, or temporaries of their size."""
    assert measured["one, double"] - measured["one"] < 2 * ABSMAX_BYTES
