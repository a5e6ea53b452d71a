"""Survivors of mutmut are held to their explanations, and the explanations to the sources."""

import re
from pathlib import Path

import pytest

import quant
from tests.mutation.run import changed_lines, readable, table, verdicts
from tests.mutation.survivors import CLASSES, LOWEST_SCORE, Mutant, faults_of, read_survivors, score

PACKAGE = Path(quant.__file__).parent
EXPLAINED = read_survivors()


def source_of(function: str) -> str:
    """The file of `function` on one line, without indentation."""
    parts = function.split(".")[1:]
    for length in range(len(parts), 0, -1):
        for path in (
            PACKAGE.joinpath(*parts[:length]).with_suffix(".py"),
            PACKAGE.joinpath(*parts[:length], "__init__.py"),
        ):
            if path.is_file():
                return " ".join(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    raise AssertionError(f"no file has {function}")


@pytest.mark.parametrize("key", EXPLAINED)
def test_an_explanation_is_of_code_that_is_there(key: str) -> None:
    function, _, change = key.partition(": ")
    old, arrow, _ = change.partition(" -> ")
    source = source_of(function)
    assert arrow
    assert f"def {function.rpartition('.')[2]}(" in source
    assert old in source


def killed(count: int) -> list[Mutant]:
    return [Mutant("quant.a.f", "", killed=True)] * count


SURVIVOR = Mutant("quant.a.f", "x < 1 -> x <= 1", killed=False)


def test_an_explained_survivor_is_in_order_and_another_is_not() -> None:
    assert faults_of([*killed(19), SURVIVOR], {SURVIVOR.key: "equivalent"}) == []
    assert faults_of([*killed(19), SURVIVOR], {}) == [f"survives without an explanation: {SURVIVOR.key}"]


def test_an_explanation_of_what_does_not_survive_is_told_where_its_function_was_run() -> None:
    stale = {"quant.a.f: a -> b": "wording", "quant.b.g: a -> b": "wording"}
    assert faults_of(killed(1), stale) == ["is explained and does not survive: quant.a.f: a -> b"]


def test_a_low_score_is_told_however_well_it_is_explained() -> None:
    survivors = [Mutant("quant.a.f", f"{number} -> 0", killed=False) for number in range(1, 3)]
    explained = {mutant.key: "equivalent" for mutant in survivors}
    assert score([*killed(18), *survivors]) == LOWEST_SCORE
    assert faults_of([*killed(18), *survivors], explained) == []
    assert faults_of([*killed(17), *survivors], explained) == ["89.5% are killed, less than 90%"]


def test_the_table_counts_survivors_by_class() -> None:
    lines = table([*killed(3), SURVIVOR, Mutant("quant.b.g", "", killed=True)], {SURVIVOR.key: "wording"}).splitlines()
    counts = " | ".join("1" if kind == "wording" else "0" for kind in CLASSES)
    none = " | ".join("0" for _ in CLASSES)
    assert lines[2:] == [
        f"| quant.a | 4 | 75.0% | {counts} |",
        f"| quant.b | 1 | 100.0% | {none} |",
        f"| all | 5 | 80.0% | {counts} |",
    ]


def test_a_change_is_known_by_its_lines() -> None:
    diff = "--- a.py\n+++ a.py\n@@ -1,3 +1,3 @@\n def f():\n-    return g(\n-        1, 2)\n+    return g(1)\n     x"
    assert changed_lines(diff) == "return g( 1, 2) -> return g(1)"


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("quant.a.x_f__mutmut_1", "quant.a.f"),
        ("quant.a.b.x__f__mutmut_12", "quant.a.b._f"),
        ("quant.a.xǁMyClassǁ__init____mutmut_3", "quant.a.MyClass.__init__"),
    ],
)
def test_the_mangled_names_of_mutmut_are_made_readable(name: str, function: str) -> None:
    assert readable(name) == function


CODES = {"a.red": 1, "a.hung": -24, "b": 0, "c.internal": 3, "c.not_started": 255, "c.memory": -9, "d": None}
WORDS = {0: "survived", 1: "killed", 2: "x", 3: "killed", 33: "no tests", 255: "timeout"}
WORDS |= {-9: "segfault", -11: "segfault", -24: "timeout"}
"""Exit codes and mutmut 3.8's words for them."""


@pytest.mark.parametrize(("code", "killed"), [(1, True), (-24, True), (-11, True), (0, False), (2, False), (33, False)])
def test_what_failed_hung_or_crashed_is_killed(code: int, killed: bool) -> None:
    assert verdicts({"a": code}, WORDS, []) == ({"a": killed}, [])


def test_what_was_not_run_to_an_end_has_no_verdict() -> None:
    """mutmut 3.8 has words for three of them as if they were killed: by an error, by hanging, by a crash."""
    judged = {"a.red": True, "a.hung": True, "b": False}
    assert verdicts(CODES, WORDS, []) == (judged, ["c.internal", "c.not_started", "c.memory", "d"])


def test_only_what_fits_a_pattern_is_judged() -> None:
    assert verdicts(CODES, WORDS, ["a.*", "c.m*"]) == ({"a.red": True, "a.hung": True}, ["c.memory"])


@pytest.mark.parametrize(("pattern", "count"), [("no.such.*", 0), ("c.*", 3), ("d", 1)])
def test_where_nothing_has_a_verdict_there_is_none(pattern: str, count: int) -> None:
    with pytest.raises(ValueError, match=rf"^{count} mutants fit {re.escape(pattern)} and none of them has a verdict"):
        verdicts(CODES, WORDS, [pattern])


def test_without_files_nothing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no explanations"):
        read_survivors(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    ["unheard-of:\n  reason: [a]\n", 'wording:\n  " ": [a]\n', "wording:\n  one: [a]\n  two: [a]\n"],
    ids=["class", "reason", "twice"],
)
def test_bad_explanations_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.yaml"):
        read_survivors(tmp_path)
