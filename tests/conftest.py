"""Fixtures for tests in several folders, and what the collector of garbage leaves alone."""

import gc
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Libraries and collected tests are a million objects that stay: walking through them is not for every collection,
    of which each measurement of memory and each run of pytest within a test makes some. Of what a module has left
    finalizers run here, before the first test of the next one; `gc.get_objects()` has what that makes.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """torch.compile starts anew, before and after."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
