"""The main job: what does each quantization do to a model? One run, one record per scheme.

For each variant (`quant.variants`) the model is loaded afresh, sized, timed while generating, and run over the same
token windows as the baseline; then it is dropped, so one model is in memory at a time (two where the baseline's
logits do not fit, see `quant.evaluate.divergence`). The records are plain data; `quant.report` renders them and
computes nothing.

A variant that cannot be made (bitsandbytes missing, a tied head) becomes a record with `error` where the caller did
not ask for it by name, and an exception where he did, if possible before anything is measured.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from quant import reference_model
from quant.errors import QuantError
from quant.evaluate.devices import accelerators
from quant.evaluate.divergence import Baseline
from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.footprint import footprint
from quant.evaluate.generation import measure_generation, peak_memory, resident_bytes
from quant.evaluate.paired import PairedAccuracy, paired_accuracy
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import quiet_transformers
from quant.variants import BASELINE, VARIANTS, LoadedModel, check_possible, check_variants, load_variant, scheme_of

Watch = Callable[[str, int, int], None]
"""Called as watch(what, done, total) while working."""


@dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes:
        model: name to show; folder: where its files are; dtype, device: of the unquantized model.
        windows: the text; batch_size: windows per call; tokenizer: to show the generated text (None: token ids only).
        prompt_tokens, new_tokens: for the generation; repeats, seconds: of the timed calls, at least.
        schemes: names from `VARIANTS`, or None for all that can be made here; block_size: of our 4-bit schemes.
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


@dataclass(frozen=True)
class Result:
    """One scheme's record. Sizes in bytes, times in seconds, KL in nats; None where it does not apply (see `error`).

    perplexity_difference and perplexity_relative_change (a fraction, not percent) are against the baseline, as is
    perplexity_ratio, whose 95 % interval is perplexity_ratio_ci. cpu_memory_bytes is the peak while generating above
    what the process held before the model was loaded, true to some tens of MB (the allocator keeps freed pages);
    gpu_memory_bytes torch's peak, summed over the devices the model is on. generate_seconds is one generation of
    `new_tokens` tokens, `generated` their text, so that a model that lost its head is seen to have done so.
    times_smaller and times_faster are the baseline's footprint_bytes over this one's and this one's tokens_per_second
    (None for a single new token, which has no decode step) over the baseline's. interval_note says why an interval
    is missing.
    """

    scheme: str
    error: str | None = None
    block_size: int | None = None
    quantized_layers: int | None = None
    linear_layers: int | None = None
    footprint_bytes: int | None = None
    parameter_bytes: int | None = None
    buffer_bytes: int | None = None
    bytes_by_dtype: dict[str, int] = field(default_factory=dict)
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
    """All records of one run, the baseline first, with what they were measured on."""

    model: str
    environment: Fingerprint
    prompt_tokens: int
    new_tokens: int
    results: tuple[Result, ...]


def compare(request: Request, watch: Watch = lambda what, done, total: None) -> Comparison:
    """Measure the baseline and every requested variant.

    Raises:
        QuantError: unknown scheme, or one asked for by name that cannot be made; whatever loading and evaluating raise.
    """
    if request.schemes is not None:
        check_variants(list(request.schemes))
        check_possible(request.schemes, request.folder, request.dtype, request.block_size, request.trust_remote_code)
    names = list(dict.fromkeys((BASELINE, *(request.schemes or VARIANTS))))
    results: list[Result] = []
    baseline: Baseline | None = None
    watch("warming up", 0, len(names))
    with quiet_transformers():
        _warm_up(request.device)
    for index, name in enumerate(names):
        watch(name, index, len(names))
        try:
            with quiet_transformers():
                result, baseline = _measure(name, request, baseline, _inside(watch, name, request.windows.scored))
                result = _beside(results[0] if results else result, result)
        except QuantError as error:
            if request.schemes is not None or name == BASELINE:
                raise
            result = Result(name, error=str(error))
        results.append(result)
    watch("done", len(names), len(names))
    assert baseline is not None
    return Comparison(
        request.model, baseline.measurement.fingerprint, request.prompt_tokens, request.new_tokens, tuple(results)
    )


def _warm_up(device: str) -> None:
    """Run the small reference model once: what libraries allocate and set up at first use is not to be charged to the
    baseline.
    """
    loaded = load_variant("w8a16", reference_model.FOLDER, torch.float32, device)
    measure_generation(loaded.model, torch.zeros(64, dtype=torch.int64), new_tokens=4, repeats=1)


def _inside(watch: Watch, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        watch(f"{name}: perplexity", done, total)

    return advance


def _measure(
    name: str, request: Request, baseline: Baseline | None, advance: Callable[[int], None]
) -> tuple[Result, Baseline]:
    """The record of one variant, and the baseline to compare the next ones with."""
    before = resident_bytes()
    began = time.perf_counter()
    loaded = load_variant(
        name, request.folder, request.dtype, request.device, request.block_size, request.trust_remote_code
    )
    load_seconds = time.perf_counter() - began
    # Before anything runs: bitsandbytes repacks its weights in the first forward.
    sizes = _sizes(loaded)
    speeds = _speeds(loaded.model, request, before)
    if baseline is None:
        baseline = Baseline(loaded.model, request.windows, request.batch_size, advance=advance)
        accuracy: dict[str, Any] = {"perplexity": perplexity_of(baseline.losses)}
    else:
        accuracy = _accuracy(paired_accuracy(baseline.measurement, baseline.compare(loaded.model, advance)))
    block_size = getattr(scheme_of(name, request.block_size), "block_size", None)
    return Result(name, block_size=block_size, load_seconds=load_seconds, **sizes, **speeds, **accuracy), baseline


def _beside(baseline: Result, result: Result) -> Result:
    """`result` with its size and speed in terms of the baseline's (possibly itself)."""
    return replace(
        result,
        times_smaller=_ratio(baseline.footprint_bytes, result.footprint_bytes),
        times_faster=_ratio(result.tokens_per_second, baseline.tokens_per_second),
    )


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def _sizes(loaded: LoadedModel) -> dict[str, Any]:
    """The size fields of a record."""
    size = footprint(loaded.model)
    return {
        "quantized_layers": loaded.quantized_layers,
        "linear_layers": loaded.linear_layers,
        "footprint_bytes": size.total_bytes,
        "parameter_bytes": size.parameter_bytes,
        "buffer_bytes": size.buffer_bytes,
        "bytes_by_dtype": size.by_dtype,
    }


def _speeds(model: Any, request: Request, resident_before: int) -> dict[str, Any]:
    """The speed and memory fields of a record."""
    prompt = request.windows.ids[: request.prompt_tokens]
    with peak_memory(above=resident_before, devices=accelerators(model)) as memory:
        generation = measure_generation(model, prompt, request.new_tokens, request.repeats, request.seconds)
    return {
        "generate_seconds": generation.seconds,
        "prefill_tokens_per_second": generation.prefill_tokens_per_second,
        "tokens_per_second": generation.decode_tokens_per_second,
        "cpu_memory_bytes": memory.cpu_bytes,
        "gpu_memory_bytes": memory.gpu_bytes,
        "generated": None if request.tokenizer is None else request.tokenizer.decode(generation.tokens),
    }


def _accuracy(paired: PairedAccuracy) -> dict[str, Any]:
    """The accuracy fields of a record."""
    return {
        "perplexity": paired.perplexity,
        "perplexity_difference": paired.difference,
        "perplexity_relative_change": paired.relative_change,
        "perplexity_ratio": paired.ratio.value,
        "perplexity_ratio_ci": paired.ratio.interval,
        "interval_note": paired.ratio.reason,
        "kl_mean": paired.kl.value,
        "kl_mean_ci": paired.kl.interval,
        "top1_agreement": paired.top1_agreement,
    }
