"""What took hours to measure is delivered as far as it can be: no failure of one part costs another."""

from collections.abc import Callable


def write_then_print(write: Callable[[], None], show: Callable[[], None]) -> None:
    """Write files first, as a reader that closes the pipe ends what prints; then print, even where that failed, as a
    full disk must not cost what is printed. The first failure is raised in the end.
    """
    failure: Exception | None = None
    try:
        write()
    except Exception as error:
        failure = error
    try:
        show()
    except (Exception, SystemExit):  # rich exits where the pipe is closed
        if failure is None:
            raise
    if failure is not None:
        raise failure
