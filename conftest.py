"""What every test runs under: no hub, one hypothesis profile per purpose, a fixed seed, and no global state that
leaks to the next test; several processes where that is quicker; a look at what a test takes; benchmarks that take time
only when asked to; and the Python of the documents is run as tests.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# As it was found, for the process that fetches what tests/gpu runs on.
os.environ.setdefault("HF_HUB_OFFLINE_AS_FOUND", os.environ.get("HF_HUB_OFFLINE", "0"))
os.environ["HF_HUB_OFFLINE"] = "1"
# Read when torch is loaded. Threads that spin while they wait slow everything down where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores, so one thread each. Tests of what threads do set their number themselves.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser

# "ci" replays the same examples every time; "random" draws new ones, for nightly runs: HYPOTHESIS_PROFILE=random. Both
# spell everything out: what a profile leaves open comes from the one that hypothesis itself picks, and on CI that one
# replays. Without a database a failure comes back by its printed blob only, and no old example takes a new one's place.
slow_machines = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=slow_machines
)
settings.register_profile(
    "random",
    deadline=None,
    derandomize=False,
    database=None,
    max_examples=500,
    print_blob=True,
    suppress_health_check=slow_machines,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

pytest_plugins = ["tests.benchmarks.gating.plugin", "tests.slow_tests", "pytester"]

TIMING_OPTIONS = ("only", "enable", "autosave", "save", "save_data", "json", "compare", "histogram")


MOST_PROCESSES = 8
"""Each imports torch and collects all tests, and the longest file cannot be split: more of them gain nothing."""


def takes_timings(config: pytest.Config) -> bool:
    """Whether one of pytest-benchmark's options asks for timings."""
    return any(config.getoption(f"benchmark_{name}") for name in TIMING_OPTIONS)


def leaves_gpu_out(expression: str) -> bool:
    """Whether no test marked gpu is selected by `-m expression`, by itself or as one of several conditions."""
    return "not gpu" in expression.split(" and ") and not re.search(r"\bor\b|\(", expression)


def pytest_configure(config: pytest.Config) -> None:
    """Benchmarks take timings where an option asks for them, and just run once elsewhere. Without tests marked gpu
    there is no GPU: libraries look for one, and use it, when they are imported (bitsandbytes), here and in processes
    that tests start.
    """
    if not takes_timings(config):
        config.option.benchmark_disable = True
    if leaves_gpu_out(config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """Tests that start pytest must not inherit the options: --cov would measure them against the whole suite.

    Not before: where tests run in several processes, each of those reads the options again, from the environment of the
    first one, which collects nothing.
    """
    os.environ.pop("PYTEST_ADDOPTS", None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A document's examples run in its order, whatever shuffled the tests: later ones use what earlier ones define."""
    places = [place for place, item in enumerate(items) if isinstance(item, SybilItem)]
    examples = sorted((items[place] for place in places), key=lambda item: item.location[:2])
    for place, example in zip(places, examples, strict=True):
        items[place] = example


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto` of pytest.ini: one process per core for folders and the whole suite.

    One process (0) for timings, which need the machine to themselves; for tests on the GPU, of which there is one, and
    their rehearsal, which shares what it measures; and for files and tests that are named, which start sooner without.
    """
    marked = config.option.markexpr
    # Without tests on the GPU nobody asks whether there is one.
    gpu = not leaves_gpu_out(marked) and (marked == "gpu" or torch.cuda.is_available())
    folders = any(Path(argument).is_dir() for argument in config.args)
    if takes_timings(config) or gpu or not folders:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def global_state() -> dict[str, object]:
    """Process-wide settings of torch that library code must not change."""
    return {
        "default dtype": torch.get_default_dtype(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Seed torch, and fail a test that leaves process-wide settings changed."""
    torch.manual_seed(0)
    before = global_state()
    yield
    assert global_state() == before


def given_names(namespace: dict[str, Any]) -> None:
    """What examples take as given, in every document: a model, its folder, folders to save to, a layer, a weight."""
    from quant import reference_model  # noqa: PLC0415
    from quant.integrations.transformers import load_model  # noqa: PLC0415

    namespace["model"] = load_model(reference_model.FOLDER, torch.float32)
    namespace["folder"] = reference_model.FOLDER
    namespace["saved"] = Path(tempfile.mkdtemp())
    namespace["out"] = f"{namespace['saved']}/out"
    namespace["linear"] = torch.nn.Linear(64, 32)
    namespace["weight"] = namespace["linear"].weight


DOCUMENTS = ["README.md", "docs/*.md", "docs/how-to/*.md"]
"""Whose Python is run."""
pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], patterns=DOCUMENTS, setup=given_names).pytest()
