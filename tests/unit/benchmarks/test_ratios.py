"""Ratios within one run, their limits, and the file that keeps them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.gating.file import limits_of, machine_record, read, write
from tests.benchmarks.gating.ratios import ALPHA, Measured, Pair, bounds, hold, measured_ratios
from tests.unit.benchmarks.runs import KEY, run

PAIR = Pair("a / b", "a", "b")
VALUES = [0.5, 0.51, 0.49, 0.505, 0.495, 0.502, 0.498, 0.507, 0.493, 0.5]
LIMITS = {"a / b": Measured((0.5,), center=0.5, low=0.4, high=0.6)}


def test_a_ratio_is_of_medians_and_needs_both_sides() -> None:
    assert measured_ratios(run({"a": 3.0, "b": 4.0}), [PAIR]) == {"a / b": 0.75}
    assert measured_ratios(run({"a": 3.0}), [PAIR]) == {}
    assert measured_ratios(run({"b": 3.0}), [PAIR]) == {}


def test_bounds_are_students_prediction_bound() -> None:
    """t(9, 1 - 0.001) = 4.2968 from a printed table; logarithms of 0, +-0.1 and +-0.2, each twice: sd sqrt(0.2 / 9)."""
    found = bounds([math.exp(0.1 * step) for step in (-2, -1, 0, 1, 2) * 2], 0.001)
    reach = 4.2968 * math.sqrt(0.2 / 9) * math.sqrt(1 + 1 / 10)
    assert found.center == pytest.approx(1)
    assert math.log(found.high) == pytest.approx(reach, rel=1e-4)
    assert math.log(found.low) == pytest.approx(-reach, rel=1e-4)


def drawn() -> list[tuple[Measured, float]]:
    """8,000 times the bounds of ten runs, at 5 %, and the ratio of one more run of the same code."""
    draws = np.exp(np.random.default_rng(0).normal(0, 0.03, (8000, 11)))
    return [(bounds(row[:10], 0.05), row[10]) for row in draws.tolist()]


def test_the_stated_share_of_healthy_runs_is_above_the_limit_and_as_many_below() -> None:
    """400 of 8,000, with a standard deviation of 19.5. A normal quantile in the place of Student's would give 538."""
    above = sum(value > measured.high for measured, value in drawn())
    below = sum(value < measured.low for measured, value in drawn())
    assert abs(above - 400) < 4 * 19.5
    assert abs(below - 400) < 4 * 19.5


def test_the_slowdown_that_a_ratio_catches_passes_as_rarely_as_a_healthy_run_fails() -> None:
    """400 of 8,000 again; a slowdown to limit / measured passes in every second run: 4,000, standard deviation 45."""
    passed = sum(value * (1 + measured.catches) <= measured.high for measured, value in drawn())
    assert abs(passed - 400) < 4 * 19.5
    even = sum(value * measured.high / measured.center <= measured.high for measured, value in drawn())
    assert abs(even - 4000) < 4 * 45


def test_rarer_false_alarms_make_a_limit_wider() -> None:
    assert bounds(VALUES, 1e-5).high > bounds(VALUES, 1e-3).high > max(VALUES)


def test_a_spread_needs_ten_runs() -> None:
    assert len(VALUES) == 10
    with pytest.raises(ValueError, match="9 runs are too few"):
        bounds(VALUES[:9], 0.001)


@pytest.mark.parametrize(("ratio", "fails", "told"), [(0.59, False, False), (0.61, True, False), (0.39, False, True)])
def test_slower_than_the_limit_fails_and_much_faster_is_told(ratio: float, fails: bool, told: bool) -> None:
    findings = hold({"a / b": ratio}, [PAIR], LIMITS, whole=False)
    assert (bool(findings.failures), bool(findings.notes), findings.held) == (fails, told, 1)
    assert all(line.startswith(f"a / b: {ratio:.3f}") for line in [*findings.failures, *findings.notes])


def test_a_ratio_that_is_no_number_fails() -> None:
    assert hold({"a / b": math.nan}, [PAIR], LIMITS, whole=False).failures


def test_a_portable_limit_holds_without_and_beside_measured_ones() -> None:
    pair = Pair("a / b", "a", "b", portable=0.55)
    for limits in (None, LIMITS):
        assert hold({"a / b": 0.54}, [pair], limits, whole=False).failures == []
        (failure,) = hold({"a / b": 0.56}, [pair], limits, whole=False).failures
        assert "0.55, the limit on every machine" in failure


def test_a_missing_pair_fails_only_the_whole() -> None:
    other = Pair("c / d", "c", "d", portable=1)
    assert hold({"c / d": 0.5}, [PAIR, other], None, whole=False).failures == []
    (failure,) = hold({"c / d": 0.5}, [PAIR, other], None, whole=True).failures
    assert failure == "a / b: not in this run, of a and b"


def test_a_pair_without_a_limit_and_a_limit_without_a_pair_fail() -> None:
    other = Pair("c / d", "c", "d", portable=1)
    failures = hold({}, [other], LIMITS, whole=False).failures
    assert failures == ["c / d: no limit was measured for it", "a / b: has a limit, but is no pair"]


def test_a_whole_run_that_is_held_to_nothing_fails() -> None:
    assert hold({"a / b": 9}, [PAIR], None, whole=False).failures == []
    assert hold({"a / b": 9}, [PAIR], None, whole=True).failures == ["none of this run's ratios has a limit"]


def test_portable_limits_are_enough_for_a_whole_run() -> None:
    other = Pair("c / d", "c", "d", portable=1)
    assert hold({"a / b": 9, "c / d": 0.5}, [PAIR, other], None, whole=True).failures == []


def test_the_file_gives_back_the_limits_of_its_key_only(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    assert read(path) == []
    for threads in (2, 4):
        write(path, machine_record({**KEY, "threads": threads}, {"runs": 10}, {"a / b": VALUES}))
    write(path, machine_record(KEY, {"runs": 10}, {"a / b": [2 * value for value in VALUES]}))
    assert [machine["key"]["threads"] for machine in read(path)] == [4, 2]
    assert limits_of(read(path), KEY) == {"a / b": bounds([2 * value for value in VALUES], ALPHA)}
    assert limits_of(read(path), {**KEY, "cpu": "B"}) is None


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    write(path, machine_record(KEY, {"runs": 10}, {"a / b": VALUES}))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["machines"][0]["ratios"]["a / b"]["limit"] = 9.0
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="edited by hand"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"machines": [{"key": {}, "provenance": {}}]}',
        '{"machines": [{"key": {}, "provenance": {}, "ratios": []}]}',
        '{"machines": [{"key": {}, "provenance": {}, "ratios": {"a / b": {"values": [0.5]}}}]}',
    ],
)
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is not a file of ratios"):
        read(path)
