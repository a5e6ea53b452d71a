"""The suite marked `gpu` cannot be green without running: without a GPU it stops, a rehearsal leaves out only what is
listed here, and without it nothing touches CUDA.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import conftest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "gpu"
LEFT_OUT = [
    ("test_cuda_graphs.py", "test_a_replayed_graph_gives_the_results_of_a_call", "CUDA graphs"),
    ("test_device_map.py", "test_a_model_split_over_devices_computes_as_in_one_place", "two GPUs"),
    ("test_footprints.py", "test_every_byte_is_on_the_device", "bytes that torch allocates on the GPU"),
    ("test_layers.py", "test_moving_between_gpus_keeps_every_bit", "two GPUs"),
    ("test_memory_and_latency.py", "test_a_scheme_takes_less_of_the_gpu_than_the_baseline", "the GPU's peak memory"),
]
"""File, test, and what its lines below `if needs_cuda(...)` need a GPU for: all that no rehearsal runs."""

UNTOUCHED = """
import os
import torch

def test_it():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_initialized() and torch.cuda.device_count() == 0
"""
POISON = """
import torch

def touched(*_, **__):
    raise AssertionError("touched CUDA")

torch.cuda._lazy_init = torch.cuda.init = touched
"""


def left_out(path: Path) -> Iterator[tuple[str, str, str]]:
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.If)
                    and isinstance(node.test, ast.Call)
                    and "needs_cuda" in ast.unparse(node.test)
                ):
                    yield path.name, function.name, ast.literal_eval(node.test.args[0])


def run_pytest(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", *map(str, arguments)]
    # CUDA_VISIBLE_DEVICES: as on a machine without a GPU.
    set_ = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment
    return subprocess.run(command, cwd=ROOT, env=set_, capture_output=True, text=True, check=False)


def test_a_rehearsal_leaves_out_only_what_is_listed() -> None:
    assert sorted(entry for path in FOLDER.glob("*.py") for entry in left_out(path)) == LEFT_OUT


def test_what_coverage_leaves_out_is_that_and_no_more() -> None:
    """By their text, in files that have no other way to leave out a line; and how a module begins as a command."""
    settings = (FOLDER / "coveragerc").read_text(encoding="utf-8")
    patterns = [line.strip() for line in settings.split("exclude_also =\n")[1].splitlines()]
    assert len(patterns) == 2
    lines = [
        line for path in sorted(FOLDER.glob("test_*.py")) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert sum(bool(re.search(patterns[0], line)) for line in lines) == len(LEFT_OUT)
    assert not [line for line in lines if "pragma" in line or "pytest.skip" in line or "mark.skip" in line]


def test_every_test_of_the_folder_is_marked() -> None:
    files = sorted(FOLDER.glob("test_*.py"))
    assert len(files) > 6
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert re.search(r"^pytestmark = \[?\s*pytest\.mark\.gpu\b", text, re.MULTILINE), path


def test_without_a_gpu_the_run_stops_in_one_sentence() -> None:
    """That there is no such GPU is said likewise: tests/gpu/test_refusals.py."""
    done = run_pytest("-m", "gpu", "tests/gpu/test_layers.py")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("ERROR") == 1
    assert "tests marked gpu need a CUDA GPU and torch sees none: run pytest -m 'not gpu'," in done.stdout + done.stderr
    assert "passed" not in done.stdout


@pytest.mark.slow  # collects the suite for a GPU in a process of its own, measured: 8.1 s
def test_without_its_tests_nothing_touches_cuda(tmp_path: Path) -> None:
    """Collecting them neither; and a library that looks for a GPU when it is imported, as bitsandbytes does, sees none,
    here and in every process that is started.
    """
    (tmp_path / "poison.py").write_text(POISON, encoding="utf-8")
    (tmp_path / "test_untouched.py").write_text(UNTOUCHED, encoding="utf-8")
    arguments = ("-p", "poison", "-c", "pytest.ini", "tests/gpu", tmp_path / "test_untouched.py")
    done = run_pytest("-m", "not gpu", *arguments, PYTHONPATH=f"{tmp_path}:{ROOT}", CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert re.search(r"1 passed, \d+ deselected", done.stdout)


@pytest.mark.parametrize(
    ("expression", "out"),
    [
        *(("not gpu", True), ("not gpu and not slow", True), ("slow and not gpu", True)),
        *(("", False), ("gpu", False), ("slow", False), ("not gpu or slow", False), ("not (gpu and slow)", False)),
    ],
)
def test_a_gpu_is_hidden_from_runs_without_its_tests_alone(expression: str, out: bool) -> None:
    assert conftest.leaves_gpu_out(expression) is out
