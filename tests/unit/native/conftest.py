"""Each kernel variant in turn."""

from collections.abc import Iterator

import pytest

from quant import native


@pytest.fixture(params=native.VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs with this variant's kernels."""
    name: str = request.param
    if name not in native.supported():
        pytest.skip(f"this CPU does not run the {name} kernels")
    with native.override(name):
        yield name
