"""Speed and memory of `model.generate`: greedy, a fixed number of new tokens, after a warm-up, medians of several runs.

Three figures come from two calls per run, timed in turn: generating one token takes the prefill, generating n takes
the prefill and n - 1 decode steps.

    prefill tokens/s = prompt tokens / t(1)        decode tokens/s = (n - 1) / (t(n) - t(1))

Memory of the CPU is the peak resident size of the process while generating, sampled every few milliseconds, minus
what it held before the model was loaded; of the GPU, torch's peak of allocated bytes. Times depend on everything:
compare them within one run only.
"""

import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.windows import evaluating

SAMPLE_SECONDS = 0.005


@dataclass(frozen=True)
class Generation:
    """prompt_tokens, new_tokens: counts; seconds: of one `generate` call; *_tokens_per_second: see the module
    docstring; tokens: the generated ids.
    """

    prompt_tokens: int
    new_tokens: int
    seconds: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    tokens: tuple[int, ...]


def measure_generation(model: Any, prompt: Tensor, new_tokens: int, repeats: int = 3) -> Generation:
    """Time greedy generation of `new_tokens` (>= 2) after `prompt` (int64 [length]), median of `repeats`.

    Raises:
        QuantError: fewer than two new tokens, an empty prompt, or more tokens than the model has positions.
    """
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if new_tokens < 2 or len(prompt) < 1:
        raise QuantError(f"generation needs a prompt and at least 2 new tokens, got {len(prompt)} and {new_tokens}")
    if repeats < 1:
        raise QuantError(f"generation needs at least 1 repeat, got {repeats}")
    if limit is not None and len(prompt) + new_tokens > limit:
        raise QuantError(
            f"{len(prompt)} prompt and {new_tokens} new tokens exceed the model's {limit} positions: ask for fewer"
        )
    inputs = prompt[None].to(next(model.parameters()).device)
    first, whole = [], []
    with evaluating(model):
        _generate(model, inputs, 2)
        for _ in range(repeats):
            first.append(_timed(model, inputs, 1)[0])
            seconds, output = _timed(model, inputs, new_tokens)
            whole.append(seconds)
    prefill, total = statistics.median(first), statistics.median(whole)
    decode = max(total - prefill, sys.float_info.min)
    tokens = tuple(output[0, len(prompt) :].tolist())
    return Generation(len(prompt), new_tokens, total, len(prompt) / prefill, (new_tokens - 1) / decode, tokens)


def _generate(model: Any, inputs: Tensor, new_tokens: int) -> Tensor:
    mask = torch.ones_like(inputs)
    output: Tensor = model.generate(
        inputs, attention_mask=mask, do_sample=False, num_beams=1, min_new_tokens=new_tokens, max_new_tokens=new_tokens
    )
    return output


def _timed(model: Any, inputs: Tensor, new_tokens: int) -> tuple[float, Tensor]:
    _synchronize(inputs.device)
    began = time.perf_counter()
    output = _generate(model, inputs, new_tokens)
    _synchronize(inputs.device)
    return time.perf_counter() - began, output


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class PeakMemory:
    """cpu_bytes: peak resident bytes above the given level; gpu_bytes: torch's peak allocation. Filled when the block
    ends.
    """

    cpu_bytes: int = 0
    gpu_bytes: int = 0


def resident_bytes() -> int:
    """Bytes the process holds in memory, after giving back to the system what was freed (Linux)."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


@contextmanager
def peak_memory(above: int) -> Iterator[PeakMemory]:
    """Measure the block's peak memory; the CPU's is reported less `above` bytes, as `resident_bytes()` gave them
    earlier.
    """
    process = psutil.Process()
    highest = resident_bytes()
    done = threading.Event()
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if gpu:
        torch.cuda.reset_peak_memory_stats()

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
        peak.cpu_bytes = max(0, max(highest, process.memory_info().rss) - above)
        peak.gpu_bytes = torch.cuda.max_memory_allocated() if gpu else 0
