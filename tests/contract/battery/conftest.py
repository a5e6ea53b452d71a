"""Gives each test its schemes."""

import pytest

from tests.contract.registered import registered_schemes


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per registered scheme, by its registered name, where a test takes `scheme` and does not choose itself.

    Raises:
        pytest.Collector.CollectError: a registered scheme has no thresholds.
    """
    chosen = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])}
    if "scheme" in metafunc.fixturenames and "scheme" not in chosen:
        schemes = registered_schemes()
        metafunc.parametrize("scheme", schemes.values(), ids=schemes)


def _names(argument: str | tuple[str, ...]) -> list[str]:
    return [name.strip() for name in argument.split(",")] if isinstance(argument, str) else list(argument)
