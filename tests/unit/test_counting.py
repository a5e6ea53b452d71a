"""What faults of growth count in place of time (`tests.faults.counting`) is the same in any order of tests."""

import gc
import weakref

from tests.faults.counting import calls_of


class Node:
    """In a ring with itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.ring = self


def test_calls_are_counted() -> None:
    def inner() -> int:
        return 0

    assert calls_of(lambda: [inner() for _ in range(3)]) in (4, 5)  # the list is a function of its own before 3.12


def test_what_earlier_tests_have_left_is_not() -> None:
    """A hundred finalizers, which run whenever the collector does."""
    finalized: list[int] = []
    for index in range(100):
        weakref.finalize(Node(), lambda index: finalized.append(index), index)
    assert calls_of(lambda: None) == 1
    assert len(finalized) == 100


def test_the_collector_is_as_it_was() -> None:
    assert gc.isenabled()
    assert calls_of(lambda: None) == 1
    assert gc.isenabled()
    gc.disable()
    try:
        calls_of(lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()
