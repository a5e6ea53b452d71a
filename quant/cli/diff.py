"""`quant diff`: two records of `quant compare --json`, and whether the second one is worse. `quant.diff` says what that
means.
"""

from pathlib import Path
from typing import Annotated

import typer

from quant.cli.options import parse_fraction
from quant.diff import diff
from quant.errors import QuantError
from quant.report.diff_tables import diff_notes, diff_tables
from quant.report.json_file import diff_json
from quant.report.json_reader import read_comparison
from quant.report.markdown import to_markdown
from quant.report.terminal import make_console, print_report

REGRESSED = 1


def diff_command(
    before: Annotated[Path, typer.Argument(help="JSON file of the earlier run.")],
    after: Annotated[Path, typer.Argument(help="JSON file of the later run.")],
    max_slowdown: Annotated[
        str | None,
        typer.Option(
            help="Part of the decoding speed that may be lost, as in 20%. Takes both runs on the same machine, threads "
            "and torch. Default: speed is told and not judged."
        ),
    ] = None,
    sizes_only: Annotated[
        bool, typer.Option("--sizes-only", help="Judge sizes alone, as where the runs are of other texts.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 also where a check is inconclusive, as in a gate.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, as for a comment of a CI.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Did anything get worse between two runs of `quant compare --json`? Exit code 1 if so, 2 if that cannot be told.

    Accuracy is compared on the same tokens, window by window; more bytes are a regression, and so is a scheme that is
    missing from the second run. What is not more than chance is called inconclusive, and no regression but with
    --strict.

    Examples:
    * `quant diff main.json branch.json`
    * `quant diff old.json new.json --max-slowdown 20% --markdown`
    """
    if markdown and json_:
        raise QuantError("--markdown and --json are two ways to print one thing: choose one")
    limit = None if max_slowdown is None else parse_fraction("--max-slowdown", max_slowdown)
    found = diff(read_comparison(before), read_comparison(after), limit, sizes_only)
    tables, notes = diff_tables(found), diff_notes(found)
    if json_:
        typer.echo(diff_json(found), nl=False)
    elif markdown:
        typer.echo(to_markdown(f"{found.after.model}: what changed", tables, notes), nl=False)
    else:
        print_report(make_console(), tables, notes)
    if found.regressed or (strict and found.inconclusive):
        raise typer.Exit(REGRESSED)
