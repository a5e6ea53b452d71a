"""Fixtures for tests in several folders, and what the collector of garbage leaves alone."""

import gc
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Libraries and collected tests are a million objects that stay: walking through them is not for every collection,
    of which each measurement of memory and each run of pytest within a test makes some.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """torch.compile starts anew, before and after."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
