"""What all benchmarks share: medians of this run to divide by, and the ratios that are held to a limit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.gating.ratios import Pair

Medians = dict[tuple[str, ...], float]
"""(group, name) -> median seconds of what has run so far."""


def times(benchmark: BenchmarkFixture) -> bool:
    """Whether timings are taken, or each benchmark just runs once."""
    return not benchmark.disabled


@pytest.fixture(scope="session")
def medians() -> Medians:
    return {}


@pytest.fixture
def timed(benchmark: BenchmarkFixture, medians: Medians) -> Callable[..., Any]:
    """A function of (group, name, function, *arguments) that times the call, keeps its median in `medians` and returns
    what it returned.
    """

    def run(group: str, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        benchmark.group = group
        benchmark.extra_info["name"] = name
        with torch.inference_mode():
            result = benchmark(function, *arguments)
        if times(benchmark):
            assert benchmark.stats is not None
            medians[group, name] = benchmark.stats.stats.median
        return result

    return run


def pytest_benchmark_pairs() -> list[Pair]:
    from tests.benchmarks.pairs import all_pairs  # noqa: PLC0415

    return all_pairs()
