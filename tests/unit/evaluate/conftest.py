"""Everything here runs on one thread: the models are tiny."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_thread(single_threaded: None) -> None:
    """See `single_threaded`."""
