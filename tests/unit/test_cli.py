"""What the command line prints: help with examples, tables to a pipe, JSON with integers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from quant import __version__
from quant.cli import app
from quant.report.html import to_html
from quant.report.json_reader import read_comparison
from quant.variants import VARIANTS
from tests.unit.cli_runner import Outcome, Run, subprocess_run


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
