"""`quant study`: NF4 against linear quantization, measured, as a page with figures. The places that files go to are
checked before the work starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quant import native
from quant.errors import QuantError
from quant.study.files import check_folder, write_files
from quant.study.page import read_json, to_files
from quant.study.records import Study
from quant.study.run import SHARES, Watch, run_study
from quant.study.settings import QUICK, Settings


def study_command(
    out: Annotated[Path, typer.Option(help="Folder for nf4-vs-linear.md, its figures and its records.")] = Path("docs"),
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

    Examples: `quant study`, `quant study --quick --out study`, `quant study --from docs/nf4-vs-linear.json`
    """
    if records is not None and (quick or tokens is not None or rounds is not None):
        raise QuantError("--from measures nothing, and takes neither --quick nor --tokens nor --rounds: leave them out")
    check_folder(out)
    if records is not None:
        study = _read(records)
    else:
        native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is measured
        settings = QUICK if quick else Settings()
        settings = replace(settings, tokens=tokens or settings.tokens, rounds=rounds or settings.rounds)
        with _progress() as watch:
            study = run_study(settings, watch)
    for path in write_files(out, to_files(study)):
        typer.echo(path)


def _read(records: Path) -> Study:
    try:
        return read_json(records.read_text(encoding="utf-8"), str(records))
    except (OSError, UnicodeDecodeError) as error:
        raise QuantError(f"--from {records} cannot be read ({error}): name the JSON file of a study") from error


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar for the whole and one for the phase, on stderr, with the time left; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = progress.add_task("study", total=sum(SHARES.values()))
        inner = progress.add_task("starting", total=None)

        def watch(phase: str, done: int, total: int) -> None:
            phases = list(SHARES)
            before = sum(SHARES[name] for name in phases[: phases.index(phase)])
            progress.update(whole, completed=before + SHARES[phase] * done / total)
            progress.update(inner, description=phase, completed=done, total=total)

        yield watch
