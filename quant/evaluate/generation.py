"""Speed and memory of `model.generate`: greedy, a fixed number of new tokens, after a warm-up, medians of several runs.

Three figures come from two calls per run, timed in turn: generating one token takes the prefill, generating n takes
the prefill and n - 1 decode steps.

    prefill tokens/s = prompt tokens / t(1)        decode tokens/s = (n - 1) / (t(n) - t(1))

Memory is the peak while generating minus what was held before the model was loaded: of the CPU, the resident size of
the process, sampled every few milliseconds; of GPUs, the bytes that torch has allocated on those that the model is on.
Times depend on everything: compare them within one run only.
"""

import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.devices import accelerators, input_device
from quant.evaluate.limits import check_positions, check_vocabulary
from quant.evaluate.windows import evaluating

SAMPLE_SECONDS = 0.005
MOST_REPEATS = 15


@dataclass(frozen=True)
class Generation:
    """prompt_tokens, new_tokens: counts; seconds: of one `generate` call; *_tokens_per_second: see the module
    docstring, decode_tokens_per_second None where there is no decode step to time (one new token) or it took no longer
    than the prefill by itself; tokens: the generated ids.
    """

    prompt_tokens: int
    new_tokens: int
    seconds: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float | None
    tokens: tuple[int, ...]


def measure_generation(model: Any, prompt: Tensor, new_tokens: int, repeats: int = 3, seconds: float = 0) -> Generation:
    """Time greedy generation of `new_tokens` (>= 1) after `prompt` (int64 [length]): medians of `repeats` calls, and of
    more, up to `MOST_REPEATS`, until they have taken `seconds`, for short calls vary most.

    Raises:
        QuantError: no new tokens, an empty prompt, more tokens than the model has positions, or unknown ones.
    """
    if new_tokens < 1 or len(prompt) < 1:
        raise QuantError(f"generation needs a prompt and at least 1 new token, got {len(prompt)} and {new_tokens}")
    if repeats < 1:
        raise QuantError(f"generation needs at least 1 repeat, got {repeats}")
    config = getattr(model, "config", None)
    check_positions(config, len(prompt) + new_tokens, "prompt and new tokens:")
    check_vocabulary(config, prompt)
    inputs = prompt[None].to(input_device(model))
    devices = accelerators(model)
    first: list[float] = []
    whole: list[float] = []
    with evaluating(model):
        _generate(model, inputs, min(2, new_tokens))
        while len(whole) < repeats or (len(whole) < MOST_REPEATS and sum(whole) < seconds):
            first.append(_timed(model, inputs, 1, devices)[0])
            took, output = _timed(model, inputs, new_tokens, devices)
            whole.append(took)
    prefill, total = statistics.median(first), statistics.median(whole)
    decode = (new_tokens - 1) / (total - prefill) if new_tokens > 1 and total > prefill else None
    tokens = tuple(output[0, len(prompt) :].tolist())
    return Generation(len(prompt), new_tokens, total, len(prompt) / prefill, decode, tokens)


def _generate(model: Any, inputs: Tensor, new_tokens: int) -> Tensor:
    mask = torch.ones_like(inputs)
    output: Tensor = model.generate(
        inputs, attention_mask=mask, do_sample=False, num_beams=1, min_new_tokens=new_tokens, max_new_tokens=new_tokens
    )
    return output


def _timed(model: Any, inputs: Tensor, new_tokens: int, devices: Sequence[torch.device]) -> tuple[float, Tensor]:
    _synchronize(devices)
    began = time.perf_counter()
    output = _generate(model, inputs, new_tokens)
    _synchronize(devices)
    return time.perf_counter() - began, output


def _synchronize(devices: Sequence[torch.device]) -> None:
    for device in devices:
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class HeldMemory:
    """cpu_bytes: resident; gpu_bytes: allocated by torch, by the index of the CUDA device."""

    cpu_bytes: int
    gpu_bytes: Mapping[int, int]


@dataclass
class PeakMemory:
    """Peaks above the given level, in bytes. cpu_bytes: resident; gpu_bytes: torch's allocations, summed over the
    devices. Filled when the block ends.
    """

    cpu_bytes: int = 0
    gpu_bytes: int = 0


def resident_bytes() -> int:
    """Bytes the process holds in memory, after giving back to the system what was freed (Linux)."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def held_memory() -> HeldMemory:
    """What the process holds now, on the CPU and on every CUDA device."""
    resident = resident_bytes()  # first, for it collects garbage, which may be a model on a GPU
    allocated = {index: torch.cuda.memory_allocated(index) for index in range(torch.cuda.device_count())}
    return HeldMemory(resident, allocated)


@contextmanager
def peak_memory(above: HeldMemory, devices: Sequence[torch.device] = ()) -> Iterator[PeakMemory]:
    """Measure the block's peak memory.

    Args:
        above: what to subtract, as `held_memory()` gave it earlier.
        devices: the CUDA devices to sum over, by index, as `quant.evaluate.devices.accelerators` gives them.
    """
    process = psutil.Process()
    highest = resident_bytes()
    done = threading.Event()
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)

    def sample() -> None:
        nonlocal highest
        while not done.wait(SAMPLE_SECONDS):
            highest = max(highest, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    peak = PeakMemory()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()
        peak.cpu_bytes = max(0, max(highest, process.memory_info().rss) - above.cpu_bytes)
        peak.gpu_bytes = sum(
            max(0, torch.cuda.max_memory_allocated(device) - above.gpu_bytes[device.index]) for device in devices
        )
