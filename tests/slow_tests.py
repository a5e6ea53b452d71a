"""A pytest plugin: which tests take long without saying so, in CPU time.

Not in seconds on the clock, which depend on what else the machine does. CPU seconds depend on the machine too, so that
by default (`--slow-tests=report`) a test over the limit is listed in the summary and passes; `--slow-tests=fail` makes
it fail, which CI asks for. Tests with the marker `slow` may take what they need.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

SLOW = 20.0
"""CPU seconds, with those of subprocesses, that a test may take without the marker `slow`, its fixtures included.

What takes more than 8 s on an idle core of the machine that the documentation's figures are from, without coverage, is
marked: everything else has 2.5 times that for slower machines and for the measuring of coverage.
"""
TAKEN = "cpu_seconds"
"""The property of a report that says what a test over the limit took. Properties reach xdist's first process."""

spent_before = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow-tests",
        choices=("fail", "report"),
        default="report",
        help=f"A test that takes more than {SLOW:g} s of CPU time without the marker slow fails, or is listed in the "
        "summary (report, the default).",
    )


def spent() -> float:
    """CPU seconds of this process and of the subprocesses that it has waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note what was spent before the test and the fixtures that it is the first to use."""
    item.stash[spent_before] = spent()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail or note a test that is slow and not marked so. Random examples are five times as many: not held to it."""
    result = yield
    taken = spent() - item.stash[spent_before]
    if taken > SLOW and "slow" not in item.keywords and settings.get_current_profile_name() != "random":
        if item.config.getoption("slow_tests") == "fail":
            pytest.fail(f"took {taken:.1f} s of CPU time: make it cheaper, or mark it slow", pytrace=False)
        item.user_properties.append((TAKEN, taken))
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The slow tests of all processes, the slowest first."""
    slow = [
        (value, report.nodeid)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == TAKEN
    ]
    if slow:
        terminalreporter.section("slow tests: make them cheaper, or mark them slow")
        for taken, test in sorted(slow, reverse=True):
            terminalreporter.write_line(f"{taken:.1f} s of CPU time: {test}")
