"""A bar for work whose bytes are known: done, speed and time left, on stderr; nothing where stderr is no terminal, and
nothing before the work begins, so that bad input is one line there too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


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
