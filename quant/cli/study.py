"""`quant study`: NF4 against linear quantization, measured, as a page with figures. The places that files go to are
checked before the work starts.

What computes and draws is imported when it is wanted: scipy and matplotlib take a second, which the other commands need
not wait for.
"""

from collections.abc import Callable, Iterator, Mapping
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
    from quant.study.page import read_json, to_files  # noqa: PLC0415
    from quant.study.run import SHARES, run_study  # noqa: PLC0415

    if records is not None:
        study = read_json(_text_of(records), str(records))
    else:
        native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is measured
        settings = QUICK if quick else Settings()
        settings = replace(settings, tokens=tokens or settings.tokens, rounds=rounds or settings.rounds)
        with _progress(SHARES) as watch:
            study = run_study(settings, watch)
    for path in write_files(out, to_files(study)):
        typer.echo(path)


def _text_of(records: Path) -> str:
    try:
        return records.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QuantError(f"--from {records} cannot be read ({error}): name the JSON file of a study") from error


@contextmanager
def _progress(shares: Mapping[str, int]) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for the whole, whose phases have `shares` of it, and one for the phase, with the time left, on stderr;
    nothing where that is no terminal.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = progress.add_task("study", total=sum(shares.values()))
        inner = progress.add_task("starting", total=None)

        def watch(phase: str, done: int, total: int) -> None:
            phases = list(shares)
            before = sum(shares[name] for name in phases[: phases.index(phase)])
            progress.update(whole, completed=before + shares[phase] * done / total)
            progress.update(inner, description=phase, completed=done, total=total)

        yield watch
