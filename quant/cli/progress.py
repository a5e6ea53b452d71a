"""Bars for work whose bytes, or measurements, are known: done, speed and time left, on stderr; nothing where stderr is
no terminal, and nothing before the work begins, so that bad input is one line there too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


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
