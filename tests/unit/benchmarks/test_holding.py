"""One run's ratios beside their limits."""

import math

import pytest

from tests.benchmarks.gating.failures import Failure, counted, lines
from tests.benchmarks.gating.holding import Findings, hold
from tests.benchmarks.gating.ratios import Measured, Pair

PAIR = Pair("a / b", "a", "b", "all")
OTHER = Pair("c / d", "c", "d", "all", portable=1)
LIMITS = {"a / b": Measured(center=0.5, low=0.4, high=0.6)}


def held(ratio: float, pair: Pair = PAIR, limits: dict[str, Measured] | None = LIMITS) -> Findings:
    """What comes of a ratio of `ratio` to 1 s."""
    return hold({"a": ratio, "b": 1.0}, [pair], limits, whole=False)


@pytest.mark.parametrize(("ratio", "fails", "told"), [(0.59, False, False), (0.61, True, False), (0.39, False, True)])
def test_slower_than_the_limit_fails_and_much_faster_is_told(ratio: float, fails: bool, told: bool) -> None:
    findings = held(ratio)
    assert (bool(findings.failures), bool(findings.notes)) == (fails, told)
    assert all(line.startswith(f"a / b: {ratio:.3f}") for line in [*lines(findings.failures), *findings.notes[:1]])


def test_a_ratio_below_what_was_measured_tells_both_seconds_and_not_which_side_moved() -> None:
    low, remedy = hold({"a": 0.00123456, "b": 0.01}, [PAIR], LIMITS, whole=False).notes
    assert low == (
        "a / b: 0.123, below 0.400 (measured: 0.500): either the first got faster (0.001235 s in this run) "
        "or the second slower (0.01 s)"
    )
    assert "run again on a machine with nothing else to do, and if they stay there, measure the limits anew" in remedy
    assert "stale" not in remedy


def test_a_ratio_that_is_no_number_fails() -> None:
    assert held(math.nan).failures


def test_a_portable_limit_holds_without_and_beside_measured_ones() -> None:
    pair = Pair("a / b", "a", "b", "all", portable=0.55)
    for measured in (None, LIMITS):
        assert held(0.54, pair, measured).failures == []
        (failure,) = held(0.56, pair, measured).failures
        assert failure.line == "a / b: 0.560, above 0.55, the limit on every machine"


def test_a_ratio_above_both_of_its_limits_is_one_failure() -> None:
    (failure,) = held(0.61, Pair("a / b", "a", "b", "all", portable=0.55)).failures
    assert failure == (
        "a / b: 0.610, above 0.55, the limit on every machine and above 0.600 (measured: 0.500)",
        "ratio above a limit",
        1,
    )


@pytest.mark.parametrize(
    ("portable", "measured", "says"),
    [
        (
            [1, None, 1],
            True,
            "2 of 3 ratios held to a limit: 2 to one measured on this machine, 1 to one that holds on",
        ),
        ([1, 1, 1], False, "2 of 3 ratios held to a limit: 0 to one measured on this machine, 2 to one that holds on"),
        (
            [1, None, 1],
            False,
            "1 of 3 ratios held to a limit: 0 to one measured on this machine, 1 to one that holds on",
        ),
    ],
)
def test_what_ratios_were_held_to_is_told(portable: list[float | None], measured: bool, says: str) -> None:
    """The third pair has limits too, and is not in the run."""
    ids = [("a", "b"), ("b", "a"), ("c", "d")]
    pairs = [Pair(f"{a} / {b}", a, b, "all", limit) for (a, b), limit in zip(ids, portable, strict=True)]
    limits = {pair.name: Measured(0.5, 0.1, 9.0) for pair in pairs} if measured else None
    assert hold({"a": 0.5, "b": 0.5}, pairs, limits, whole=False).held == f"{says} every machine"


def test_that_no_ratio_was_held_is_told() -> None:
    assert held(0.5, limits=None).held == "0 of 1 ratios held to a limit"


def test_missing_ratios_fail_only_the_whole() -> None:
    assert hold({"c": 0.5, "d": 1}, [PAIR, OTHER], None, whole=False).failures == []
    (failure,) = hold({"c": 0.5, "d": 1}, [PAIR, OTHER], None, whole=True).failures
    assert failure == ("a: ratios missing: 1; not in this run: a, b", "ratio missing", 1)


def test_missing_ratios_are_told_together_by_the_benchmark_that_they_are_of() -> None:
    """Six layers beside one that ran, of which one ran too, and another file."""
    layers = [Pair(str(n), f"a.py::test_a[x-{n}]", "a.py::test_a[y[0]]", "all", portable=1) for n in range(6)]
    other = Pair("other", "b.py::test_b[x]", "b.py::test_b[y]", "all", portable=1)
    times = {"a.py::test_a[x-2]": 1.0, "a.py::test_a[y[0]]": 2.0, "b.py::test_b[x]": 1.0}
    failures = hold(times, [*layers, other], None, whole=True).failures
    assert lines(failures) == [
        "a.py::test_a: ratios missing: 5; not in this run: x-0, x-1, x-3, x-4 and 1 more",
        "b.py::test_b: ratios missing: 1; not in this run: y",
    ]
    assert counted(failures) == "6 ratios missing"


def test_a_pair_without_a_limit_and_a_limit_without_a_pair_fail() -> None:
    failures = hold({"c": 1.0}, [OTHER], LIMITS, whole=False).failures
    assert lines(failures) == ["c / d: no limit was measured for it", "a / b: has a limit, but is no pair"]


def test_a_whole_run_that_is_held_to_nothing_fails() -> None:
    times = {"a": 9.0, "b": 1.0}
    assert hold(times, [PAIR], None, whole=False).failures == []
    assert lines(hold(times, [PAIR], None, whole=True).failures) == ["none of this run's ratios has a limit"]


def test_portable_limits_are_enough_for_a_whole_run() -> None:
    assert hold({"a": 9.0, "b": 1.0, "c": 0.5, "d": 1.0}, [PAIR, OTHER], None, whole=True).failures == []


def test_failures_are_counted_by_kind_and_what_has_no_number_is_said() -> None:
    failures = [
        Failure("", "ratio missing", 103),
        Failure("", "ratio above a limit"),
        Failure("", "no benchmark has run", 0),
        Failure("", "regression"),
        Failure("", "ratio above a limit"),
        Failure("", "no benchmark has run", 0),
    ]
    assert counted(failures) == "103 ratios missing, 2 ratios above a limit, no benchmark has run, 1 regression"
    assert counted(failures[1:2]) == "1 ratio above a limit"


def test_limits_and_pairs_are_missed_in_the_files_that_ran_only() -> None:
    """Unless the run claims to be whole."""
    here, there = Pair("a", "x.py::a", "x.py::b", "all"), Pair("c", "y.py::c", "y.py::d", "all")
    run, limits = {"x.py::a": 0.5, "x.py::b": 1.0}, {"a": LIMITS["a / b"]}
    assert hold(run, [here, there], limits, whole=False).failures == []
    assert lines(hold(run, [here], {}, whole=False).failures) == ["a: no limit was measured for it"]
    assert lines(hold(run, [here], {**limits, "e": LIMITS["a / b"]}, whole=False).failures) == [
        "e: has a limit, but is no pair"
    ]
    missed, *_ = lines(hold(run, [here, there], limits, whole=True).failures)
    assert missed == "c: no limit was measured for it"
