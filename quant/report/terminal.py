"""Tables on the terminal, with rich: wide where there is room, plain when piped."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from quant.report.tables import Table

PIPED_WIDTH = 160
"""Columns to use where the output is no terminal and so has no width."""


def make_console() -> Console:
    """A console on stdout, wide enough for every table where it is piped."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)


def print_report(console: Console, tables: Sequence[Table], notes: Sequence[str]) -> None:
    """Print `tables`, then `notes`, to `console`. In a narrow terminal cells fold over lines; no digit is ever cut
    off.
    """
    for table in tables:
        rich_table = RichTable(box=SIMPLE_HEAD)
        for index, column in enumerate(table.header):
            rich_table.add_column(column, justify="right" if index else "left", overflow="fold", no_wrap=index == 0)
        for row in table.rows:
            rich_table.add_row(*(Text(cell) for cell in row))
        console.print(Text(table.title, style="bold"), rich_table)
    for note in notes:
        console.print(Text(note), soft_wrap=True)
