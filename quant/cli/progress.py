"""Bars for everything that takes more than two seconds, with the time left, on stderr: nothing where that is no
terminal, and nothing before the work begins, so that bad input is one line there too.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from quant.compare import Watch
from quant.variants import VARIANTS


@contextmanager
def bytes_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields what to call with (bytes done, bytes in all), from any thread; the first call shows the bar."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(what, total=None, start=False)

    def watch(done: int, total: int) -> None:
        progress.start()  # which does nothing the next time, like the other
        progress.start_task(task)
        progress.update(task, completed=done, total=total)

    try:
        yield watch
    finally:
        progress.stop()


@contextmanager
def measurements_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields what to call with (what is measured, measurements done, measurements in all); the first call shows it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("", total=None)

    def watch(what: str, done: int, total: int) -> None:
        progress.start()
        progress.update(task, description=what, completed=done, total=total)

    try:
        yield watch
    finally:
        progress.stop()


@contextmanager
def schemes_bar(shown: bool) -> Iterator[Watch]:
    """A bar for the schemes of a comparison and one for the work on a scheme, where they are to be `shown`; yields what
    `quant.compare` calls.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        schemes = progress.add_task("schemes")
        inner = progress.add_task("loading")

        def watch(what: str, done: int, total: int) -> None:
            if ":" not in what:
                progress.update(schemes, completed=done, total=total)
                progress.reset(
                    inner, description=f"{what}: loading and generating" if what in VARIANTS else what, total=None
                )
            else:
                progress.update(inner, description=what, completed=done, total=total)

        yield watch


@contextmanager
def shares_bar(what: str, shares: Mapping[str, int]) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for the whole of `what`, whose phases have `shares` of it, and one for the phase; yields what to call with
    (phase, done, total).
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = progress.add_task(what, total=sum(shares.values()))
        inner = progress.add_task("starting", total=None)

        def watch(phase: str, done: int, total: int) -> None:
            phases = list(shares)
            before = sum(shares[name] for name in phases[: phases.index(phase)])
            progress.update(whole, completed=before + shares[phase] * done / total)
            progress.update(inner, description=phase, completed=done, total=total)

        yield watch
