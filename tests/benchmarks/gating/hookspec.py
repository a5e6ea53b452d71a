"""The hook by which a conftest.py says what its benchmarks are held to."""

from collections.abc import Sequence

import pytest

from tests.benchmarks.gating.ratios import Pair


@pytest.hookspec
def pytest_benchmark_pairs(config: pytest.Config) -> Sequence[Pair]:  # type: ignore[empty-body]
    """Benchmarks of one run whose times are held to each other."""
