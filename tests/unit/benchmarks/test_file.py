"""The file that keeps measured ratios."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.gating.file import RATIOS, limits_of, machine_record, read, series_of, write
from tests.benchmarks.gating.ratios import Series, limits
from tests.benchmarks.pairs import all_pairs
from tests.unit.benchmarks.runs import KEY

ROOT = Path(__file__).parents[3]
VALUES = [0.5, 0.51, 0.49, 0.505, 0.495, 0.502, 0.498, 0.507, 0.493, 0.5]
MEASURED = {
    "a / b": Series(tuple(VALUES), "all", "b"),
    "c / d": Series(tuple(float(f"{value**2:.4g}") for value in VALUES), "all", "d"),
}


def test_the_file_gives_back_the_limits_of_its_key_only(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    assert read(path) == []
    for threads in (2, 4):
        write(path, machine_record({**KEY, "threads": threads}, {"runs": 10}, MEASURED))
    twice = {"a / b": Series(tuple(2 * value for value in VALUES), "all", "b")}
    write(path, machine_record(KEY, {"runs": 10}, twice))
    assert [machine["key"]["threads"] for machine in read(path)] == [4, 2]
    assert limits_of(read(path), KEY) == limits(twice)
    assert limits_of(read(path), {**KEY, "cpu": "B"}) is None
    four = {**KEY, "threads": 4}
    assert limits_of(read(path), four, {"d", "e"}) == {"c / d": limits(MEASURED)["c / d"]}
    assert limits_of(read(path), four, set()) == {}


@pytest.mark.parametrize(
    ("ratio", "field", "value"),
    [("a / b", "limit", 9.0), ("a / b", "group", "own"), ("c / d", "denominator", "b"), ("c / d", "values", VALUES)],
)
def test_an_edited_file_is_refused(ratio: str, field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    write(path, machine_record(KEY, {"runs": 10}, MEASURED))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["machines"][0]["ratios"][ratio][field] = value
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="edited by hand"):
        read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Expecting"),
        ("[]", "list indices"),
        ("{}", "'schema'"),
        ('{"schema": 1, "machines": []}', "of schema 1, and 2 is what is read"),
        ('{"schema": 2, "machines": [{"key": {}, "provenance": {}}]}', "'ratios'"),
        ('{"schema": 2, "machines": [{"key": {}, "provenance": {}, "ratios": []}]}', "no attribute"),
        (
            '{"schema": 2, "machines": [{"key": {}, "provenance": {}, "ratios": {"a / b": {"values": [0.5]}}}]}',
            "'group'",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"is not a file of ratios .*{says}.*delete it and measure anew"):
        read(path)


def test_a_groups_figures_are_those_of_its_ratios() -> None:
    """The standard deviation of the logarithms by numpy; the second pair's is twice the first's."""
    groups = machine_record(KEY, {}, MEASURED)["groups"]
    alone = np.std(np.log(VALUES), ddof=1)
    assert groups == {"all": {"deviation": pytest.approx(alone * math.sqrt(2.5), rel=0.005), "degrees": 18}}


def test_the_limits_of_this_repository_are_of_the_classes_and_denominators_that_pairs_have() -> None:
    pairs = {pair.name: (pair.group, pair.denominator) for pair in all_pairs()}
    for machine in read(ROOT / RATIOS):
        measured = {name: (each.group, each.denominator) for name, each in series_of(machine).items()}
        assert measured
        assert measured == {name: pairs[name] for name in measured}
    assert Counter(group for group, _ in pairs.values()) == {
        "1 rows": 32,
        "16 rows": 32,
        "512 rows": 32,
        "generating": 9,
        "quantizing": 6,
    }
