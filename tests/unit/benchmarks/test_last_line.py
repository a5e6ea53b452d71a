"""The last line of a session that fails its gate: pytest's own counts the tests that passed."""

import pytest

from tests.unit.benchmarks.project import COMPARE, Project, with_limits


def last_line(printed: str) -> str:
    return printed.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "speeds", "says"),
    [
        (COMPARE, {"a": 1.0}, "1 benchmark missing"),
        (COMPARE, {"c": 1.0}, "2 benchmarks missing, 1 benchmark not in the stored run"),
        (COMPARE, {"a": 1.2, "b": 2.4}, "2 regressions"),
        ((*COMPARE, "-k", "other"), None, "no benchmark has run"),
        (("--benchmark-only",), {"a": 1.1, "b": 2.0}, "1 ratio above a limit"),
        (("--benchmark-only", "--benchmark-gate=whole"), {"a": 1.0}, "1 ratio missing, no ratio has a limit"),
    ],
)
def test_what_a_session_fails_for_is_its_last_line(
    options: tuple[str, ...], speeds: dict[str, float | None] | None, says: str, measured: Project
) -> None:
    code, printed = with_limits(measured).pytest(*options, speeds=speeds)
    assert (code, last_line(printed)) == (1, f"benchmark gate: failed, {says}"), printed


def test_a_first_run_and_a_file_that_cannot_be_read_are_named(project: Project) -> None:
    code, printed = project.pytest(*COMPARE, "--benchmark-autosave")
    assert (code, last_line(printed)) == (1, "benchmark gate: failed, no stored run to compare with"), printed
    with_limits(project)
    (project.folder / "tests" / "benchmarks" / "ratios.json").write_text("{", encoding="utf-8")
    code, printed = project.pytest("--benchmark-only")
    assert (code, last_line(printed)) == (1, "benchmark gate: failed, ratios.json cannot be read"), printed


def test_a_session_that_passes_ends_as_pytest_ends_it(measured: Project) -> None:
    code, printed = with_limits(measured).pytest(*COMPARE)
    assert code == 0
    assert " passed" in last_line(printed)
    assert "gate: failed" not in printed


def test_where_tests_are_only_listed_nothing_fails(project: Project) -> None:
    code, printed = project.pytest(*COMPARE, "--benchmark-autosave", "--collect-only")
    assert (code, "FAILED" in printed, "gate: failed" in printed) == (0, False, False), printed
