"""The gate as users meet it: pytest runs made-up benchmarks in a project of their own, by a clock that they set."""

import re

import pytest

from tests.benchmarks.gating import machine
from tests.unit.benchmarks.project import COMPARE, Project, with_limits
from tests.unit.benchmarks.runs import KEY


def test_the_same_speed_passes_and_a_slower_run_fails_in_one_line(measured: Project) -> None:
    code, printed = measured.pytest(*COMPARE)
    assert code == 0, printed
    code, printed = measured.pytest(*COMPARE, speeds={"a": 1.2, "b": 2.0})
    assert code == 1
    assert re.findall(r"^FAILED (\S+): Field 'median'", printed, re.MULTILINE) == ["test_speed.py::test_speed[a]"]


def test_a_regression_that_is_stored_is_not_what_the_next_run_is_compared_with(measured: Project) -> None:
    slow = {"a": 1.2, "b": 2.0}
    for _ in range(2):
        assert measured.pytest(*COMPARE, "--benchmark-autosave", speeds=slow)[0] == 1
    refused = [run["refused"] for run in measured.stored()]
    assert [len(lines) for lines in refused] == [0, 1, 1]
    assert refused[1][0].startswith("test_speed.py::test_speed[a]: Field 'median'")
    # Stored without a comparison it is accepted.
    assert measured.pytest("--benchmark-only", "--benchmark-autosave", speeds=slow)[0] == 0
    assert measured.pytest(*COMPARE, speeds=slow)[0] == 0


def test_a_stored_run_says_where_it_is_from(measured: Project) -> None:
    (run,) = measured.stored()
    assert run["machine_info"] == {"quant": KEY, "software": machine.current_software()}


def test_renamed_benchmarks_fail_on_both_sides(measured: Project) -> None:
    code, printed = measured.pytest(*COMPARE, speeds={"a": 1.0, "c": 2.0})
    assert code == 1
    assert "FAILED test_speed.py::test_speed[b]: in the stored run, but not in this one" in printed
    assert "FAILED test_speed.py::test_speed[c]: in this run, but not in the stored one" in printed


def test_fewer_tokens_per_second_fail(measured: Project) -> None:
    options = ("--benchmark-only", "--benchmark-compare", "--benchmark-compare-extra", "tokens_per_second:10%")
    assert measured.pytest(*options, speeds={"a": 1.05, "b": 2.0})[0] == 0
    code, printed = measured.pytest(*options, speeds={"a": 1.2, "b": 2.0})
    assert code == 1
    assert "test_speed[a]: tokens_per_second is 6.66667 and was 8: 20.0 % worse, 10 % allowed" in printed


def test_another_machine_is_refused_before_anything_runs(measured: Project) -> None:
    code, printed = measured.pytest(*COMPARE, threads=4)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "threads: 2 there, 4 here" in printed
    (file,) = measured.folder.glob(".benchmarks/*/*/*.json")
    code, printed = measured.pytest("--benchmark-only", f"--benchmark-compare={file}", threads=4)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "the stored run is of another machine: threads: 2 there, 4 here" in printed
    assert measured.pytest("--benchmark-only", f"--benchmark-compare={file}")[0] == 0


def test_the_first_run_of_a_machine_is_stored_and_fails(measured: Project) -> None:
    code, printed = measured.pytest(*COMPARE, "--benchmark-autosave", threads=4)
    assert code == 1
    assert "this run is stored: the next one is compared with it" in printed
    assert measured.pytest(*COMPARE, threads=4)[0] == 0


@pytest.mark.parametrize("options", [("-k", "nothing"), ("-k", "other")])
def test_a_comparison_of_nothing_fails(options: tuple[str, ...], measured: Project) -> None:
    code, printed = measured.pytest(*COMPARE, *options)
    assert code == 1
    assert "FAILED a comparison was asked for and no benchmark has run" in printed


@pytest.mark.parametrize("option", ["--benchmark-autosave", "--benchmark-json=run.json"])
@pytest.mark.filterwarnings("error")  # which makes pytest-benchmark's own word for it a traceback
def test_storing_nothing_is_told(option: str, project: Project) -> None:
    code, printed = project.pytest(option, "-k", "nothing")
    assert (code, "nothing was stored: no benchmark has run" in printed) == (5, True), printed


def test_a_comparison_of_what_was_skipped_fails(measured: Project) -> None:
    code, printed = measured.pytest(*COMPARE, speeds={"a": None, "b": None})
    assert code == 1
    assert "FAILED a comparison was asked for and no benchmark has run" in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--benchmark-compare-fail=median:5%",), "need --benchmark-compare"),
        (("--benchmark-compare", "--benchmark-disable"), "benchmarks are switched off"),
        (("--benchmark-compare", "--benchmark-skip"), "benchmarks are switched off"),
        (("--benchmark-compare=0007",), "matches '0007'"),
        (("--benchmark-compare", "--benchmark-compare-extra", "tokens:5%"), "'tokens' is none of"),
        (("--benchmark-compare", "--benchmark-compare-extra", "bytes"), "is not like tokens_per_second:5%"),
    ],
)
def test_a_comparison_that_cannot_take_place_is_refused(options: tuple[str, ...], says: str, project: Project) -> None:
    code, printed = project.pytest(*options)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert says in printed


def test_a_ratio_above_its_limit_fails_and_one_far_below_is_told(project: Project) -> None:
    with_limits(project)
    code, printed = project.pytest("--benchmark-only", "--benchmark-gate=whole")
    assert (code, "1 of 1 ratios held to a limit: 1 to one measured on this" in printed) == (0, True), printed
    code, printed = project.pytest("--benchmark-only", speeds={"a": 1.1, "b": 2.0})
    assert (code, "FAILED a / b: 0.550, above 0.50" in printed) == (1, True), printed
    assert project.pytest("--benchmark-only", "--benchmark-gate=off", speeds={"a": 1.1, "b": 2.0})[0] == 0
    code, printed = project.pytest("--benchmark-only", speeds={"a": 0.5, "b": 2.0})
    assert (code, "or the second slower (2 s)" in printed) == (0, True), printed


def test_a_whole_run_must_hold_every_pair(project: Project) -> None:
    with_limits(project)
    assert project.pytest("--benchmark-only", speeds={"a": 1.0})[0] == 0
    code, printed = project.pytest("--benchmark-only", "--benchmark-gate=whole", speeds={"a": 1.0})
    assert (code, "ratios missing: 1; not in this run: b" in printed) == (1, True), printed


def test_a_machine_without_limits_is_told_and_a_whole_run_on_it_holds_nothing(project: Project) -> None:
    with_limits(project)
    code, printed = project.pytest("--benchmark-only", threads=4)
    assert (code, "ratios.json has no limits of this machine" in printed) == (0, True), printed
    assert project.pytest("--benchmark-only", "--benchmark-gate=whole", threads=4)[0] == 1


def test_without_timings_there_is_no_gate(project: Project) -> None:
    with_limits(project)
    code, printed = project.pytest("--benchmark-disable", speeds={"a": 9.0, "b": 2.0})
    assert (code, "benchmark gate" in printed) == (0, False), printed
