"""Where `quant compare` writes, and what a failure on the way may not cost: not the old file, and nothing measured."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from quant.records import Comparison, Result
from quant.report.json_file import comparison_json
from tests.unit.cli_runner import QUICK, Outcome, Run
from tests.unit.report.samples import COMPARISON

pytestmark = pytest.mark.usefixtures("quick_comparisons")


def compare_once(run: Run, model_folder: Path, text_file: Path, *options: object) -> Outcome:
    return run("compare", model_folder, "--text", text_file, *QUICK, *options)


def test_an_interrupted_write_leaves_the_old_file(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record goes to a temporary file beside the target, which it replaces when it is complete."""
    target = tmp_path / "out.json"
    target.write_text("old", encoding="utf-8")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    assert compare_once(run, model_folder, text_file, "--json", target).code != 0
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_dash_prints_the_record_alone(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For pipes, as in `quant compare --json - | jq`."""
    monkeypatch.chdir(tmp_path)
    outcome = compare_once(run, model_folder, text_file, "--json", "-", "--report", "report")
    assert (outcome.code, outcome.err) == (0, "")
    record = json.loads(outcome.out)
    assert [result["scheme"] for result in record["results"]] == ["baseline", "w8a16"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8")) == record


def test_existing_files_are_replaced_and_reports_go_to_an_existing_folder(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    target, report = tmp_path / "out.json", tmp_path / "report"
    report.mkdir()
    target.write_text("old", encoding="utf-8")
    assert compare_once(run, model_folder, text_file, "--json", target, "--report", report).code == 0
    assert sorted(path.name for path in report.iterdir()) == ["report.html", "report.json", "report.md"]
    assert json.loads(target.read_text(encoding="utf-8")) == json.loads(
        (report / "report.json").read_text(encoding="utf-8")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "report"]


def test_a_reader_that_closes_the_pipe_does_not_cost_the_files(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `quant compare --json out.json | head`, possibly after hours."""

    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("quant.cli.compare.print_report", closed)
    assert compare_once(run, model_folder, text_file, "--json", tmp_path / "out.json").code == 1
    assert (tmp_path / "out.json").exists()


@pytest.mark.parametrize("target", ["out.json", "-"])
def test_a_figure_that_cannot_be_drawn_does_not_cost_the_record(
    target: str,
    run: Run,
    model_folder: Path,
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The failure is told all the same, and the page alone is missing."""

    def undrawable(_: Comparison) -> str:
        raise ZeroDivisionError("no such figure")

    def measured(*_: object) -> Comparison:
        return COMPARISON

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quant.cli.compare.compare", measured)
    monkeypatch.setattr("quant.report.html.to_html", undrawable)
    with pytest.raises(ZeroDivisionError, match="no such figure"):
        compare_once(run, model_folder, text_file, "--json", target, "--report", "report")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    records = {"report/report.json"} if target == "-" else {target, "report/report.json"}
    assert written == {*records, "report/report.md"}
    assert {(tmp_path / path).read_text(encoding="utf-8") for path in records} == {comparison_json(COMPARISON)}
    printed = capsys.readouterr().out
    assert printed == comparison_json(COMPARISON) if target == "-" else "Accuracy" in printed


@pytest.mark.parametrize("target", ["gone/out.json", "-"])
def test_a_disk_that_has_gone_does_not_cost_what_is_printed(
    target: str, run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> Comparison:
        for folder in ("gone", "report"):
            (tmp_path / folder).rmdir()
        (tmp_path / "report").write_text("in the way", encoding="utf-8")
        return COMPARISON

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quant.cli.compare.compare", measured)
    for folder in ("gone", "report"):
        (tmp_path / folder).mkdir()
    outcome = compare_once(run, model_folder, text_file, "--json", target, "--report", "report")
    assert outcome.code == 2
    assert "the report cannot be written" in outcome.err
    assert outcome.out == comparison_json(COMPARISON) if target == "-" else "Accuracy" in outcome.out


def test_a_scheme_that_fails_on_the_way_is_told_after_what_was_measured(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was asked for by name; else it is a note."""
    failed = replace(COMPARISON, results=(*COMPARISON.results[:2], Result("nf4", error="the disk is failing")))
    monkeypatch.setattr("quant.cli.compare.compare", lambda *_: failed)
    outcome = compare_once(run, model_folder, text_file, "--schemes", "w8a16,nf4", "--json", tmp_path / "out.json")
    assert (outcome.code, outcome.err) == (2, "quant: not measured: nf4 (the disk is failing)\n")
    assert "w8a16" in outcome.out
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == comparison_json(failed)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_or_pipe_is_not_replaced_by_a_file(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        compare_once(run, model_folder, text_file, "--json", pipe)
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_link_is_followed_and_stays(run: Run, model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    assert compare_once(run, model_folder, text_file, "--json", link).code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text(encoding="utf-8"))["schema"] == 1
