"""Markdown and the terminal show the same cells, and neither loses one of their characters."""

import re
from collections.abc import Sequence
from io import StringIO

import pytest
from rich.console import Console

from quant.report.markdown import to_markdown
from quant.report.tables import Table, comparison_notes, comparison_tables, sizing_notes, sizing_tables
from quant.report.terminal import make_console, print_report
from tests.unit.report.samples import COMPARISON, SIZING

REPORTS = [(comparison_tables(COMPARISON), comparison_notes(COMPARISON)), (sizing_tables(SIZING), sizing_notes(SIZING))]
each_report = pytest.mark.parametrize(("tables", "notes"), REPORTS, ids=["comparison", "sizing"])


def printed(tables: Sequence[Table], notes: Sequence[str], width: int = 160, terminal: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_report(console, tables, notes)
    return out.getvalue()


def markdown_rows(document: str) -> list[tuple[str, ...]]:
    """Cells of all table rows, headers included."""
    rows = [line for line in document.splitlines() if line.startswith("|") and not line.startswith("| ---")]
    return [tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]) for row in rows]


def terminal_rows(text: str) -> list[tuple[str, ...]]:
    """Lines of two or more cells: cells of these tables hold single spaces only, columns are at least two apart."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    return [tuple(cells) for cells in lines if len(cells) > 1]


@each_report
def test_markdown_and_terminal_carry_the_same_cells(tables: Sequence[Table], notes: Sequence[str]) -> None:
    expected = [row for table in tables for row in (table.header, *table.rows)]
    assert markdown_rows(to_markdown("Title", tables, notes)) == expected
    # An empty first header leaves nothing to split off.
    assert terminal_rows(printed(tables, notes)) == [
        tuple(cell for cell in row if cell) for row in expected if sum(map(bool, row)) > 1
    ]


@each_report
def test_titles_and_notes_are_in_both(tables: Sequence[Table], notes: Sequence[str]) -> None:
    document, lines = to_markdown("A heading", tables, notes).splitlines(), printed(tables, notes).splitlines()
    assert document[0] == "# A heading"
    for table in tables:
        assert f"**{table.title}**" in document
        assert table.title in lines
    for note in notes:
        assert f"- {note}" in document
        assert note in lines


@each_report
@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_no_character_is_lost_in_a_narrow_terminal(tables: Sequence[Table], notes: Sequence[str], width: int) -> None:
    """Cells fold over lines, so digits are counted instead of cells; nothing is cut off with an ellipsis."""
    text = printed(tables, notes, width, terminal=True)
    plain = "".join(
        [
            *notes,
            *(table.title for table in tables),
            *(cell for t in tables for row in (t.header, *t.rows) for cell in row),
        ]
    )
    assert "…" not in text
    for character in "0123456789.,+-%":
        assert text.count(character) == plain.count(character), character


def test_a_long_note_stays_on_one_line() -> None:
    note = "word " * 100 + "end"
    assert note in printed((), (note,), width=80).splitlines()


def test_brackets_are_not_markup() -> None:
    """rich takes [red] for a colour, and Markdown a pipe for a border."""
    tables = (Table("[bold]title[/bold]", ("name", "a|b"), (("[red]x", "[1.5, 2]|"),)),)
    text = printed(tables, ("[link] | note",))
    for expected in ("[bold]title[/bold]", "[red]x", "[1.5, 2]|", "[link] | note"):
        assert expected in text
    assert ("[red]x", "[1.5, 2]|") in markdown_rows(to_markdown("t", tables, ()))
    assert ("name", "a|b") in markdown_rows(to_markdown("t", tables, ()))


def test_markdown_aligns_numbers_to_the_right() -> None:
    document = to_markdown("t", (Table("x", ("a", "b", "c"), (("1", "2", "3"),)),), ())
    assert document == "# t\n\n**x**\n\n| a | b | c |\n| --- | ---: | ---: |\n| 1 | 2 | 3 |\n\n"


def test_an_error_of_several_lines_is_one_line_in_markdown() -> None:
    """What a library says goes wrong may look like a heading."""
    document = to_markdown("t", (Table("x", ("a", "b"), (("1", "no\n\n# memory"),)),), ("CUDA error:\n\n# boom",))
    assert document.splitlines()[-1] == "- CUDA error: # boom"
    assert "| 1 | no # memory |" in document
    assert [line for line in document.splitlines() if line.startswith("#")] == ["# t"]


def test_a_pipe_is_wide_and_plain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output is no terminal the width of none counts, not even one from the environment."""
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    console = make_console()
    assert console.width == 160
    print_report(console, *REPORTS[0])
    out = capsys.readouterr().out
    assert out == printed(*REPORTS[0])
    assert "\x1b" not in out
