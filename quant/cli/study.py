"""`quant study`: NF4 against linear quantization, measured, as a page with figures. The places that files go to are
checked before the work starts.

What computes and draws is imported when it is wanted: scipy and matplotlib take a second, which the other commands need
not wait for.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from quant import native
from quant.cli.progress import shares_bar
from quant.errors import QuantError
from quant.report.files import check_folder, write_files
from quant.study.settings import QUICK, Settings

OUT = Path("nf4-vs-linear-study")
"""A folder of its own: what is already in a project's docs/ is left alone unless it is named."""


def study_command(
    out: Annotated[Path, typer.Option(help="Folder for nf4-vs-linear.md, its figures and its records.")] = OUT,
    quick: Annotated[
        bool, typer.Option("--quick", help="Some seconds instead of minutes: shows that it works.")
    ] = False,
    tokens: Annotated[
        int | None, typer.Option(min=2, help="Of the held-out text. Default: 32768, with --quick 641.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Of the timings. Default: 9, with --quick 2.")] = None,
    records: Annotated[
        Path | None, typer.Option("--from", help="Measure nothing: make the page of the records in this JSON file.")
    ] = None,
) -> None:
    """NF4 against linear quantization: what each claim about them comes to, measured, as a page with figures.

    Examples:
    * `quant study`
    * `quant study --quick --out study`
    * `quant study --from docs/nf4-vs-linear.json --out docs`
    """
    if records is not None and (quick or tokens is not None or rounds is not None):
        raise QuantError("--from measures nothing, and takes neither --quick nor --tokens nor --rounds: leave them out")
    check_folder("--out", out)
    from quant.study.page import read_json, to_files  # noqa: PLC0415
    from quant.study.run import SHARES, run_study  # noqa: PLC0415

    if records is not None:
        study = read_json(_text_of(records), str(records))
    else:
        native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is measured
        settings = QUICK if quick else Settings()
        settings = replace(settings, tokens=tokens or settings.tokens, rounds=rounds or settings.rounds)
        with shares_bar("study", SHARES) as watch:
            study = run_study(settings, watch)
    files: dict[Path, str | bytes] = {out / name: text for name, text in to_files(study).items()}
    write_files(files, sorted({out, *(path.parent for path in files)}))
    for path in files:
        typer.echo(path)


def _text_of(records: Path) -> str:
    try:
        return records.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QuantError(f"--from {records} cannot be read ({error}): name the JSON file of a study") from error
