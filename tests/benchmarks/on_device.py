"""Times on a device that works on by itself: a call is over when the device has done it.

Calls that are timed follow some that are not, which compile, allocate and bring the clocks up. What is timed goes
through copies of a layer that are together larger than any GPU's cache, as decoding goes through a model, and is
synchronised once at the end. Memory is that of one call more, which is not timed, above what was there before it.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from quant.evaluate.generation import held_memory, peak_memory
from tests.benchmarks.conftest import times

WARM_UP, ROUNDS = 10, 30
CACHE_BYTES = 256 * 2**20
"""Twice the largest last-level cache of a GPU that we know of, 126 MB on a B200. At 4 bits copies take as much, and in
16 bits four times that.
"""


def synchronize(device: torch.device) -> None:
    """Wait for what was given to `device`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def through_copies(layer: nn.Module, x: Tensor, weights: int, timing: bool) -> tuple[Callable[[], Any], int]:
    """A function that calls copies of `layer`, which has so many weights, with x, and returns the last output; and how
    many copies those are: as many in every format, so that times are of the same number of calls.
    """
    count = max(2, -(-CACHE_BYTES * 2 // weights)) if timing else 1
    copies = [layer, *(copy.deepcopy(layer) for _ in range(count - 1))]

    def call() -> Any:
        for each in copies:
            y = each(x)
        return y

    return call, count


def timed(
    benchmark: BenchmarkFixture, device: torch.device, function: Callable[[], Any], tokens: int, calls: int = 1
) -> Any:
    """Time `function`, where timings are taken, and return what it returned.

    Args:
        tokens: that one of its `calls` puts through, for the tokens per second in `extra_info`, where the seconds of
            one call and the peak of memory go too.
    """

    def call() -> Any:
        result = function()
        synchronize(device)
        return result

    timing = times(benchmark)
    with torch.inference_mode():
        pedantic: Any = benchmark.pedantic
        result = pedantic(call, warmup_rounds=WARM_UP * timing, rounds=ROUNDS if timing else 1)
        if timing:
            assert benchmark.stats is not None
            seconds = benchmark.stats.stats.median / calls
            devices = [device] if device.type == "cuda" else []
            with peak_memory(above=held_memory(), devices=devices) as memory:
                call()
            benchmark.extra_info["seconds_per_call"] = seconds
            benchmark.extra_info["tokens_per_second"] = tokens / seconds
            benchmark.extra_info["peak_bytes"] = memory.gpu_bytes if devices else memory.cpu_bytes
    return result
