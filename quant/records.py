"""What to compare, and what comes of it: plain data, which `quant.compare` fills and `quant.report` renders."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.windows import TokenWindows


@dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes:
        model: name to show; folder: where its files are; dtype: of the unquantized model; device: "cpu", "cuda" (of
            several processes each has its own), "cuda:1", or "auto" (spread over devices).
        windows: the text; batch_size: windows per call; tokenizer: to show the generated text (None: token ids only).
        prompt_tokens, new_tokens: for the generation; repeats, seconds: of the timed calls, at least.
        schemes: names from `VARIANTS`, or None for all that can be made here; block_size: of our 4-bit schemes;
            scale: of all of ours, "absmax" or "mse".
    """

    model: str
    folder: Path
    dtype: torch.dtype
    windows: TokenWindows
    tokenizer: Any = None
    device: str = "cpu"
    batch_size: int = 8
    prompt_tokens: int = 64
    new_tokens: int = 64
    repeats: int = 3
    seconds: float = 3
    schemes: tuple[str, ...] | None = None
    block_size: int = 64
    trust_remote_code: bool = False
    scale: str = "absmax"


@dataclass(frozen=True)
class Result:
    """One scheme's record. Sizes in bytes, times in seconds, KL in nats; None where it does not apply (see `error`).

    perplexity_difference and perplexity_relative_change (a fraction, not percent) are against the baseline, as is
    perplexity_ratio, whose 95 % interval is perplexity_ratio_ci. cpu_memory_bytes is the peak while generating above
    what the process held before the model was loaded, true to some tens of MB (the allocator keeps freed pages);
    gpu_memory_bytes likewise what torch allocates, summed over the devices the model is on. generate_seconds is one
    generation of `new_tokens` tokens, `generated` their text, so that a model that lost its head is seen to have.
    times_smaller and times_faster are the baseline's footprint_bytes over this one's and this one's tokens_per_second
    (None for a single new token, which has no decode step) over the baseline's. offloaded_bytes do not fit on the
    devices and are fetched for every call. interval_note says why an interval is missing.
    scale, of our schemes, is "absmax" or "mse".
    """

    scheme: str
    error: str | None = None
    block_size: int | None = None
    scale: str | None = None
    quantized_layers: int | None = None
    linear_layers: int | None = None
    footprint_bytes: int | None = None
    parameter_bytes: int | None = None
    buffer_bytes: int | None = None
    bytes_by_dtype: dict[str, int] = field(default_factory=dict)
    offloaded_bytes: int | None = None
    times_smaller: float | None = None
    perplexity: float | None = None
    perplexity_difference: float | None = None
    perplexity_relative_change: float | None = None
    perplexity_ratio: float | None = None
    perplexity_ratio_ci: tuple[float, float] | None = None
    interval_note: str | None = None
    kl_mean: float | None = None
    kl_mean_ci: tuple[float, float] | None = None
    top1_agreement: float | None = None
    load_seconds: float | None = None
    generate_seconds: float | None = None
    prefill_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    times_faster: float | None = None
    cpu_memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    generated: str | None = None


@dataclass(frozen=True)
class Comparison:
    """All records of one run, the baseline first, with what they were measured on, and in how many processes, which
    changes no figure of accuracy.
    """

    model: str
    environment: Fingerprint
    prompt_tokens: int
    new_tokens: int
    results: tuple[Result, ...]
    processes: int = 1
