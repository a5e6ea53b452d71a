"""Fixtures for tests in several folders."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """torch.compile starts anew, before and after."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
