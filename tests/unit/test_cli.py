"""What the command line prints and writes: tables to a pipe, JSON with integers, files whole or not at all."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from quant import __version__
from quant.cli import app
from quant.records import Comparison, Result
from quant.report.html import to_html
from quant.report.json_file import comparison_json
from quant.report.json_reader import read_comparison
from quant.variants import VARIANTS
from tests.unit.cli_runner import QUICK, Outcome, Run, subprocess_run
from tests.unit.report.samples import COMPARISON

pytestmark = pytest.mark.usefixtures("quick_comparisons")


def test_version_and_help(run: Run) -> None:
    assert run("--version") == Outcome(0, f"quant {__version__}\n", "")
    for arguments in (("--help",), ("compare", "-h"), ("inspect", "--help")):
        outcome = run(*arguments)
        assert (outcome.code, outcome.err) == (0, "")
        assert "Usage: " in outcome.out
    bare = run()
    assert (bare.code, bare.err) == (2, "")
    assert "compare" in bare.out


def test_help_lists_every_scheme_that_the_command_takes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(run("compare", "--help").out.replace("│", " ").split())
    assert ", ".join(VARIANTS) in text
    text = " ".join(run("inspect", "--help").out.replace("│", " ").split())
    assert "w8a16, w8a16-full, nf4, nf4-dq, fp4, int4" in text
    assert "bnb" not in text


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("quant se", ["sensitivity"]),
        ("quant quantize m out --scheme nf", ["nf4", "nf4-dq"]),
        ("quant compare --schemes w8a16,f", ["w8a16,fp4"]),
        ("quant sensitivity --dtype b", ["bfloat16"]),
        ("quant convert m out --to q", ["quant"]),
    ],
)
def test_the_shell_completes_commands_and_names(
    run: Run, typed: str, completed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_QUANT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert run().out.split() == completed


def test_no_color_has_no_colour_and_a_pipe_no_codes_at_all(
    run: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By https://no-color.org: bold is no colour."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert "\x1b" not in run("inspect", model_folder).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert set(re.findall(r"\x1b\[([\d;]*)m", run("inspect", model_folder).out)) == {"0", "1"}


def test_the_help_of_every_command_has_examples(run: Run) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) >= 7
    for name in commands:
        text = run(name, "--help").out
        assert re.search(rf"^ Examples: +\n +\n  • .*quant.* {name}\b", text, re.MULTILINE), text


def test_inspect_prints_json_with_integer_bytes(run: Run, model_folder: Path) -> None:
    outcome = run("inspect", model_folder, "--scheme", "nf4", "--block-size", 128, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    record = json.loads(outcome.out)
    weights = 2 * 64 * (128 + 64 + 256 + 128)
    kept = 4 * (2 * 512 * 64 + 5 * 64)
    assert record["before"]["parameter_bytes"] == kept + 4 * weights
    assert record["after"]["parameter_bytes"] == kept + weights // 2 + 4 * weights // 128 + 8 * 4
    assert record["left"] == {"lm_head": "output head"}


def test_inspect_prints_tables(run: Run, model_folder: Path) -> None:
    outcome = run("inspect", model_folder, "--scheme", "w8a16")
    assert (outcome.code, outcome.err) == (0, "")
    for expected in ("after w8a16", "W8A16Linear", "8 of 9 linear layers quantized", "left lm_head: output head"):
        assert expected in outcome.out


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


@pytest.fixture(scope="module")
def piped(model_folder: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A whole comparison as a user runs it, its output going to a pipe."""
    out = tmp_path_factory.mktemp("out")
    options = ("--schemes", "w8a16 ,", "--window", 24, "--max-tokens", 600, "--new-tokens", 2, "--dtype", "bfloat16")
    files = ("--json", out / "out.json", "--report", out / "report")
    return subprocess_run("compare", model_folder, "--text", text_file, *options, *files), out


def test_a_comparison_prints_tables_and_nothing_else(piped: tuple[Outcome, Path]) -> None:
    outcome, _ = piped
    assert (outcome.code, outcome.err) == (0, "")
    for scheme in ("baseline", "w8a16"):
        assert len(re.findall(rf"^ +{scheme} ", outcome.out, re.MULTILINE)) == 3
    assert "bfloat16; 599 tokens scored, window 24, stride 24, no BOS" in outcome.out
    assert "…" not in outcome.out
    assert "\x1b" not in outcome.out


def test_every_cell_of_the_markdown_is_on_the_terminal_too(piped: tuple[Outcome, Path]) -> None:
    outcome, out = piped
    document = (out / "report" / "report.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines() if line.startswith("| ")
    ]
    rows = [cells for cells in rows if cells[0] != "---"]
    assert len(rows) == 3 * 3
    printed = [re.split(r" {2,}", line.strip()) for line in outcome.out.splitlines()]
    assert [cells for cells in printed if len(cells) > 1] == rows


def test_the_json_file_holds_the_records(piped: tuple[Outcome, Path]) -> None:
    outcome, out = piped
    record: dict[str, Any] = json.loads((out / "out.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert record["schema"] == 1
    assert [result["scheme"] for result in record["results"]] == ["baseline", "w8a16"]
    assert record["command"].startswith("quant compare ")
    assert record["command"].endswith(f"--json {out}/out.json --report {out}/report")
    for result in record["results"]:
        assert f"{result['footprint_bytes']:,}" in outcome.out
        assert f"{result['perplexity']:.4f}" in outcome.out
    assert sorted(path.name for path in out.iterdir()) == ["out.json", "report"]


def test_the_page_and_the_diff_of_a_real_comparison(piped: tuple[Outcome, Path], run: Run) -> None:
    _, out = piped
    page = (out / "report" / "report.html").read_text(encoding="utf-8")
    assert page == to_html(read_comparison(out / "out.json"))
    assert page.count("<svg") == 6
    assert run("diff", out / "out.json", out / "report" / "report.json").code == 0


def test_phi_3_mini_is_sized_to_the_byte(run: Run) -> None:
    outcome = run("inspect", "phi-3-mini", "--scheme", "w8a16", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    record = json.loads(outcome.out)
    assert record["before"]["parameter_bytes"] == 15_284_318_208
    assert record["after"]["parameter_bytes"] == 4_416_745_472
    assert record["after"]["bytes_by_dtype"]["int8"] == 3456 * 2**20
    assert (record["after"]["quantized_layers"], record["after"]["linear_layers"]) == (128, 129)
