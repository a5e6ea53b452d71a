"""That too few branches turn CI red, where most lines are run."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from coverage import Coverage

from tests.branch_coverage import verdict

TWO_OF_FOUR = """
def one(value):
    if value:
        value = 2
    return value

def other(value):
    if value:
        value = 3
    return value

one(True)
other(True)
"""
"""All lines are run; of the two branches of each function, one."""


def measured(folder: Path, code: str, limit: float | None, *options: str) -> Coverage:
    """What running `code` covers, under the limit."""
    (folder / "code.py").write_text(code, encoding="utf-8")
    settings = f"[run]\ndata_file = {folder}/data\n[report]\n" + (f"fail_under = {limit}\n" if limit else "")
    (folder / "coveragerc").write_text(settings, encoding="utf-8")
    command = (sys.executable, "-m", "coverage", "run", f"--rcfile={folder}/coveragerc", *options, f"{folder}/code.py")
    subprocess.run(command, check=True)
    return Coverage(config_file=str(folder / "coveragerc"))


@pytest.mark.parametrize(
    ("limit", "told"), [(50, None), (50.1, "fewer than 50.1 % of the branches were taken")], ids=["enough", "too few"]
)
def test_branches_are_held_to_the_limit_alone(
    limit: float, told: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coverage = measured(tmp_path, TWO_OF_FOUR, limit, "--branch")
    assert verdict(coverage) == told
    assert capsys.readouterr().out == f"2 of 4 branches taken, 50.00 %; the limit is {limit:g} %\n"
    assert coverage.report(file=io.StringIO()) > limit  # of lines and branches together


@pytest.mark.parametrize(
    ("code", "options", "limit", "told"),
    [
        (TWO_OF_FOUR, (), 95, "no branches were measured"),
        ("value = 1\n", ("--branch",), 95, "no branches were measured"),
        (TWO_OF_FOUR, ("--branch",), None, "there is no limit"),
        (TWO_OF_FOUR, ("--branch", "--omit=*"), 95, "nothing was measured"),
    ],
    ids=["lines alone", "no branches", "no limit", "nothing"],
)
def test_a_measurement_without_a_verdict_fails(
    code: str, options: tuple[str, ...], limit: float | None, told: str, tmp_path: Path
) -> None:
    assert told in (verdict(measured(tmp_path, code, limit, *options)) or "")


def test_without_a_measurement_there_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "coveragerc").write_text(f"[run]\ndata_file = {tmp_path}/data\n[report]\nfail_under = 95\n", "utf-8")
    assert "nothing was measured" in (verdict(Coverage(config_file=str(tmp_path / "coveragerc"))) or "")
