"""Processes that are threads, so that shares of any number of processes are tested without starting one."""

import pickle
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from quant.evaluate import processes
from quant.evaluate.processes import Processes


class Meeting:
    """Stands in for torch.distributed among `size` threads: `all_gather_object` waits for all of them, and fails as
    gloo's does when one has ended instead.
    """

    def __init__(self, size: int) -> None:
        self._size, self._ended = size, False
        self._said: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
        self._condition = threading.Condition()
        self._mine = threading.local()

    def all_gather_object(self, values: list[Any], value: object) -> None:
        number, self._mine.number = self._mine.number, self._mine.number + 1
        said = self._said[number]
        with self._condition:
            said[self._mine.rank] = pickle.dumps(value)
            self._condition.notify_all()
            self._condition.wait_for(lambda: len(said) == self._size or self._ended)
            if len(said) < self._size:
                raise RuntimeError("Connection closed by peer")
        values[:] = [pickle.loads(said[rank]) for rank in range(self._size)]

    def attend(self, rank: int, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises in process `rank`."""
        self._mine.rank, self._mine.number = rank, 0
        torch.set_num_threads(1)
        try:
            return work()
        except Exception as error:
            return error
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()


def run_together(monkeypatch: pytest.MonkeyPatch, size: int, work: Callable[[Processes], Any]) -> list[Any]:
    """What `work` returned or raised in each of `size` processes of one machine, in order of rank."""
    meeting = Meeting(size)
    monkeypatch.setattr(processes, "dist", meeting)
    outcomes: list[Any] = [None] * size

    def attend(rank: int) -> None:
        outcomes[rank] = meeting.attend(rank, lambda: work(Processes(rank, size, rank, size)))

    threads = [threading.Thread(target=attend, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
