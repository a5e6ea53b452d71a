"""Comparing a run with a stored one."""

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.utils import PercentageRegressionCheck

from tests.benchmarks.gating.failures import counted, lines
from tests.benchmarks.gating.stored import compare, latest, other_machines
from tests.unit.benchmarks.runs import KEY, run


def median_check(percent: int) -> Any:
    return PercentageRegressionCheck("median", percent)  # type: ignore[no-untyped-call]


def test_equal_runs_have_no_failures() -> None:
    noted = {"name": "a", "bytes": 10, "tokens_per_second": 5.0, "rows": 1}
    same = run({"a": 1.0}, noted)
    assert compare(same, run({"a": 1.0}, noted), [median_check(0)], {"tokens_per_second": 0}) == []


def test_benchmarks_on_one_side_are_named() -> None:
    failures = compare(run({"a": 1, "new": 1}), run({"a": 1, "old": 1}), [], {})
    assert lines(failures) == [
        "old: in the stored run, but not in this one",
        "new: in this run, but not in the stored one",
    ]
    assert counted(failures) == "1 benchmark missing, 1 benchmark not in the stored run"


def test_a_slower_benchmark_is_named_from_the_percentage_on() -> None:
    (failure,) = compare(run({"a": 1.2, "b": 1.05}), run({"a": 1.0, "b": 1.0}), [median_check(10)], {})
    assert failure.line.startswith("a: Field 'median'")
    assert counted([failure]) == "1 regression"


@pytest.mark.parametrize(
    ("field", "before", "now", "fails"),
    [
        ("tokens_per_second", 100.0, 90.0, True),  # the same tokens take 11 % longer
        ("tokens_per_second", 100.0, 91.0, False),
        ("tokens_per_second", 100.0, 200.0, False),
        ("tokens_per_second", 100.0, 0.0, True),
        ("tokens_per_second", 100.0, float("nan"), True),
        ("phi3_seconds", 1.0, 1.09, False),
        ("phi3_seconds", 1.0, 1.11, True),
        ("phi3_seconds", 1.0, 0.1, False),
        ("phi3_seconds", 1.0, float("nan"), True),
        ("peak_bytes", 0.0, 1.0, True),
        ("peak_bytes", 0.0, 0.0, False),
    ],
)
def test_noted_numbers_may_get_worse_by_so_much_in_their_direction(
    field: str, before: float, now: float, fails: bool
) -> None:
    failures = compare(run({"a": 1}, {field: now}), run({"a": 1}, {field: before}), [], {field: 10})
    assert bool(failures) == fails, failures
    assert all(line.startswith(f"a: {field} is ") for line in lines(failures))


def test_one_byte_more_fails_without_being_asked_and_one_less_does_not() -> None:
    (failure,) = compare(run({"a": 1}, {"bytes": 1001}), run({"a": 1}, {"bytes": 1000}), [], {})
    assert failure.line == "a: bytes is 1001 and was 1000: 0.1 % worse, 0 % allowed"
    assert compare(run({"a": 1}, {"bytes": 999}), run({"a": 1}, {"bytes": 1000}), [], {}) == []


def test_speeds_are_held_only_where_asked() -> None:
    now, before = run({"a": 1}, {"tokens_per_second": 1.0}), run({"a": 1}, {"tokens_per_second": 100.0})
    assert compare(now, before, [], {}) == []


@pytest.mark.parametrize(
    ("now", "before", "says"),
    [
        ({}, {"bytes": 1}, "bytes is only in the stored run"),
        ({"bytes": 1}, {}, "bytes is only in this run"),
        ({"speed": 1}, {"speed": 1}, "whether more or less of speed is better"),
        ({"rows": 2}, {"rows": 1}, "rows is 2 and was 1"),
        ({"name": "x"}, {"name": "y"}, "name is 'x' and was 'y'"),
    ],
)
def test_what_cannot_be_compared_fails(now: dict[str, Any], before: dict[str, Any], says: str) -> None:
    (failure,) = compare(run({"a": 1}, now), run({"a": 1}, before), [], {})
    assert says in failure.line


def test_holding_what_nothing_noted_fails() -> None:
    (failure,) = compare(run({"a": 1}), run({"a": 1}), [], {"tokens_per_second": 5})
    assert failure.line == "no benchmark of the stored run has 'tokens_per_second' in its extra_info"


def store(folder: Path, name: str, **fields: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({**run({"a": 1.0}), **fields}), encoding="utf-8")


def test_the_latest_run_is_by_number_and_passes_over_refused_ones(tmp_path: Path) -> None:
    store(tmp_path, "9999_a.json")
    store(tmp_path, "10000_a.json", refused=[])
    store(tmp_path, "10001_a.json", refused=["a: slower"])
    found = latest(tmp_path)
    assert found is not None
    assert found[0].name == "10000_a.json"
    assert latest(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"machine_info": {}, "benchmarks": [{}]}'])
def test_a_file_that_is_no_run_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "0001_a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"0001_a\.json is not a stored run"):
        latest(tmp_path)


def test_runs_of_other_machines_are_listed_with_what_differs(tmp_path: Path) -> None:
    store(tmp_path / "here" / "python", "0001_a.json")
    store(tmp_path / "there" / "python", "0001_a.json", machine_info={"quant": {**KEY, "threads": 8}})
    assert other_machines(tmp_path, KEY) == ["there/python differs in threads: 8 there, 2 here"]
