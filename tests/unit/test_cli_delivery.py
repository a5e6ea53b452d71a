"""Files and prints, of which either may fail."""

from collections.abc import Callable

import pytest

from quant.cli.delivery import write_then_print

Done = list[str]


def step(name: str, done: Done, error: BaseException | None) -> Callable[[], None]:
    def work() -> None:
        done.append(name)
        if error is not None:
            raise error

    return work


@pytest.mark.parametrize(
    ("write", "show", "raised"),
    [
        (None, None, None),
        (ValueError("no figure"), None, ValueError),
        (None, BrokenPipeError(), BrokenPipeError),
        (None, SystemExit(1), SystemExit),
        (OSError("no space"), SystemExit(1), OSError),
        (ValueError("no figure"), BrokenPipeError(), ValueError),
    ],
    ids=str,
)
def test_both_are_done_and_the_first_failure_is_told(
    write: Exception | None, show: BaseException | None, raised: type[BaseException] | None
) -> None:
    """A reader that has closed the pipe is no reason to be silent about a file that is missing."""
    done: Done = []
    if raised is None:
        write_then_print(step("write", done, write), step("print", done, show))
    else:
        with pytest.raises(raised):
            write_then_print(step("write", done, write), step("print", done, show))
    assert done == ["write", "print"]


def test_who_interrupts_the_writing_is_shown_nothing() -> None:
    done: Done = []
    with pytest.raises(KeyboardInterrupt):
        write_then_print(step("write", done, KeyboardInterrupt()), step("print", done, None))
    assert done == ["write"]
