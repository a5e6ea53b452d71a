"""Small constant tensors (levels, boundaries), made once per device and kept.

They are made in a thread of their own, where no mode of the caller holds, inference or a default device. On a GPU that
is also where no CUDA graph is recorded: while `torch.compile(mode="reduce-overhead")` warms up, what the calling thread
allocates comes from the memory of the graph, in which nothing may stay.

While tensors are faked (`FakeTensorMode`) or traced (`torch.compile`) a table is made in place and not kept: fakes do
not mix with tensors that have values, and no trace enters another thread. Placeholders without values, once kept,
would be given to every later call.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def cached_table(build: Callable[P, R]) -> Callable[P, R]:
    """`functools.cache` for functions that return tensors; while tensors are faked or traced it neither reads nor
    fills the cache.
    """

    def build_apart(*args: P.args, **kwargs: P.kwargs) -> R:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(build, *args, **kwargs).result()

    cached = cast("Callable[P, R]", functools.cache(build_apart))

    @functools.wraps(build)
    def table(*args: P.args, **kwargs: P.kwargs) -> R:
        # A mode that fakes tensors shows in the type of any new one.
        if torch.compiler.is_compiling() or type(torch.empty(0, device="cpu")) is not Tensor:
            return build(*args, **kwargs)
        return cached(*args, **kwargs)

    return table
