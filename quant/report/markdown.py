"""Tables as Markdown, for a README, a pull request or a file."""

from collections.abc import Sequence

from quant.report.tables import Table


def to_markdown(heading: str, tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A document: heading, tables with their titles, notes as a list."""
    parts = [f"# {heading}", ""]
    for table in tables:
        parts += [f"**{table.title}**", "", _row(table.header), _row(("---", *("---:" for _ in table.header[1:])))]
        parts += [_row(row) for row in table.rows]
        parts.append("")
    parts += [f"- {_one_line(note)}" for note in notes]
    return "\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    """What a library says goes wrong has several lines, which would end a row or a list."""
    return " ".join(text.split())
