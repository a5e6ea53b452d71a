"""Ratios within one run, their limits, and the file that keeps them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.gating.file import limits_of, machine_record, read, write
from tests.benchmarks.gating.measure import values_of, write_limits
from tests.benchmarks.gating.ratios import ALPHA, Measured, Pair, bounds, judge, measured_ratios
from tests.unit.benchmarks.runs import KEY, run

PAIR = Pair("a / b", "a", "b")
VALUES = [0.5, 0.51, 0.49, 0.505, 0.495]
LIMITS = {"a / b": Measured((0.5,), center=0.5, low=0.4, high=0.6)}


def test_a_ratio_is_of_medians_and_needs_both_sides() -> None:
    assert measured_ratios(run({"a": 3.0, "b": 4.0}), [PAIR]) == {"a / b": 0.75}
    assert measured_ratios(run({"a": 3.0}), [PAIR]) == {}
    assert measured_ratios(run({"b": 3.0}), [PAIR]) == {}


def test_bounds_are_students_prediction_bound() -> None:
    """t(4, 1 - 0.001) = 7.1732 from a printed table; the logarithms of e^(0, +-0.1, +-0.2) have sd sqrt(0.1 / 4)."""
    found = bounds([math.exp(0.1 * step) for step in (-2, -1, 0, 1, 2)], 0.001)
    reach = 7.1732 * math.sqrt(0.1 / 4) * math.sqrt(1 + 1 / 5)
    assert found.center == pytest.approx(1)
    assert math.log(found.high) == pytest.approx(reach, rel=1e-4)
    assert math.log(found.low) == pytest.approx(-reach, rel=1e-4)


def test_the_stated_share_of_healthy_runs_is_above_the_limit_and_as_many_below() -> None:
    """4,000 times five runs and one more of the same code, at 5 %: 200, with a standard deviation of 14. A normal
    quantile in the place of Student's would give 379.
    """
    draws = np.exp(np.random.default_rng(0).normal(0, 0.03, (4000, 6)))
    found = [(bounds(row[:5].tolist(), 0.05), row[5]) for row in draws]
    above = sum(bool(value > measured.high) for measured, value in found)
    below = sum(bool(value < measured.low) for measured, value in found)
    assert abs(above - 200) < 4 * 14
    assert abs(below - 200) < 4 * 14


def test_rarer_false_alarms_make_a_limit_wider() -> None:
    assert bounds(VALUES, 1e-5).high > bounds(VALUES, 1e-3).high > max(VALUES)


def test_a_spread_needs_five_runs() -> None:
    with pytest.raises(ValueError, match="4 runs are too few"):
        bounds(VALUES[:4], 0.001)


@pytest.mark.parametrize(("ratio", "fails", "told"), [(0.59, False, False), (0.61, True, False), (0.39, False, True)])
def test_slower_than_the_limit_fails_and_much_faster_is_told(ratio: float, fails: bool, told: bool) -> None:
    verdict = judge({"a / b": ratio}, [PAIR], LIMITS, whole=False)
    assert (bool(verdict.failures), bool(verdict.notes), verdict.held) == (fails, told, 1)
    assert all(line.startswith(f"a / b: {ratio:.3f}") for line in [*verdict.failures, *verdict.notes])


def test_a_ratio_that_is_no_number_fails() -> None:
    assert judge({"a / b": math.nan}, [PAIR], LIMITS, whole=False).failures


def test_a_portable_limit_holds_without_and_beside_measured_ones() -> None:
    pair = Pair("a / b", "a", "b", portable=0.55)
    for limits in (None, LIMITS):
        assert judge({"a / b": 0.54}, [pair], limits, whole=False).failures == []
        (failure,) = judge({"a / b": 0.56}, [pair], limits, whole=False).failures
        assert "0.55, the limit on every machine" in failure


def test_a_missing_pair_fails_only_the_whole() -> None:
    other = Pair("c / d", "c", "d", portable=1)
    assert judge({"c / d": 0.5}, [PAIR, other], None, whole=False).failures == []
    (failure,) = judge({"c / d": 0.5}, [PAIR, other], None, whole=True).failures
    assert failure == "a / b: not in this run, of a and b"


def test_a_pair_without_a_limit_and_a_limit_without_a_pair_fail() -> None:
    other = Pair("c / d", "c", "d", portable=1)
    failures = judge({}, [other], LIMITS, whole=False).failures
    assert failures == ["c / d: no limit was measured for it", "a / b: has a limit, but is no pair"]


def test_a_whole_run_that_is_held_to_nothing_fails() -> None:
    assert judge({"a / b": 9}, [PAIR], None, whole=False).failures == []
    assert judge({"a / b": 9}, [PAIR], None, whole=True).failures == ["none of this run's ratios has a limit"]


def test_the_file_gives_back_the_limits_of_its_key_only(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    assert read(path) == []
    for threads in (2, 4):
        write(path, machine_record({**KEY, "threads": threads}, {"runs": 5}, {"a / b": VALUES}))
    write(path, machine_record(KEY, {"runs": 5}, {"a / b": [2 * value for value in VALUES]}))
    assert [machine["key"]["threads"] for machine in read(path)] == [4, 2]
    assert limits_of(read(path), KEY) == {"a / b": bounds([2 * value for value in VALUES], ALPHA)}
    assert limits_of(read(path), {**KEY, "cpu": "B"}) is None


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    write(path, machine_record(KEY, {"runs": 5}, {"a / b": VALUES}))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["machines"][0]["ratios"]["a / b"]["limit"] = 9.0
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="edited by hand"):
        read(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is not a file of ratios"):
        read(path)


def test_measuring_writes_the_ratio_of_every_run_with_its_provenance(tmp_path: Path) -> None:
    runs = [run({"a": value, "b": 1.0}) for value in VALUES]
    write_limits(runs, [PAIR], "the command", tmp_path / "ratios.json")
    (machine,) = read(tmp_path / "ratios.json")
    assert machine["ratios"]["a / b"]["values"] == VALUES
    assert machine["ratios"]["a / b"]["spread"] == pytest.approx(0.51 / 0.49 - 1, abs=1e-3)
    assert machine["provenance"]["command"] == "the command"
    assert (machine["provenance"]["dates"], machine["provenance"]["commits"]) == (["2026-01-02"], ["c0ffee"])


def test_runs_of_two_machines_or_without_a_pair_are_not_mixed() -> None:
    whole = run({"a": 1, "b": 1})
    with pytest.raises(ValueError, match="threads: 9 there, 2 here"):
        values_of([whole, run({"a": 1, "b": 1}, threads=9)], [PAIR])
    with pytest.raises(ValueError, match="not in every run: a / b"):
        values_of([whole, run({"a": 1})], [PAIR])
