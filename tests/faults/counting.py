"""What is counted in place of time: calls of Python functions, operations of torch and the storages that they make."""

import gc
import sys
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("threading", "concurrent.futures._base")
"""Modules whose calls are as many as the machine is busy."""


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The storages that operations make, each once: bytes of each, and the operations' number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[int] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {value.untyped_storage().data_ptr() for value in args if isinstance(value, Tensor)}
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in known:
            self.sizes.append(result.untyped_storage().nbytes())
        return result


def calls_of(work: Callable[[], object]) -> int:
    """Python functions called by `work` in this thread, but for the waiting for others.

    Nothing is collected meanwhile: what earlier tests have left would be finalized by Python functions too.
    """
    count = 0

    def counted(frame: types.FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_globals.get("__name__") not in WAITING

    before, collects = sys.getprofile(), gc.isenabled()
    gc.collect()
    gc.disable()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return count
