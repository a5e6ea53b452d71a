"""The main job: what does each quantization do to a model? One run, one record per scheme.

For each variant (`quant.variants`) the model is loaded afresh, sized, timed while generating, and run over the same
token windows as the baseline; then it is dropped, so one model is in memory at a time (two where the baseline's
logits do not fit, see `quant.evaluate.divergence`). The records are plain data (`quant.records`); `quant.report`
renders them and computes nothing.

A variant that cannot be made (bitsandbytes missing, a tied head) becomes a record with `error` where the caller did
not ask for it by name, and an exception where he did, if possible before anything is measured.

Several processes (`quant.evaluate.processes`) share the windows. All load each variant, the main one times it while the
others wait, and all end up with the same records, which are those of a single process.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch

from quant import reference_model
from quant.checkpoint.folder import open_checkpoint
from quant.checkpoint.reading import Inputs
from quant.errors import QuantError
from quant.evaluate.devices import accelerators, device_name, offloaded_bytes
from quant.evaluate.divergence import Baseline
from quant.evaluate.fingerprint import differences, take_fingerprint
from quant.evaluate.footprint import footprint
from quant.evaluate.generation import HeldMemory, held_memory, measure_generation, peak_memory
from quant.evaluate.loss_profile import loss_profile, position_bins
from quant.evaluate.paired import PairedAccuracy, paired_accuracy
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.processes import ALONE, Processes
from quant.evaluate.weight_error import layer_sqnr
from quant.integrations import bitsandbytes
from quant.integrations.transformers import check_device, quiet_transformers
from quant.records import Comparison, Request, Result
from quant.variants import BASELINE, VARIANTS, LoadedModel, check_possible, check_variants, load_variant, scheme_of

Watch = Callable[[str, int, int], None]
"""Called as watch(what, done, total) while working."""


def compare(
    request: Request, watch: Watch = lambda what, done, total: None, processes: Processes = ALONE
) -> Comparison:
    """Measure the baseline and every requested variant; in several processes, all have to be called alike.

    Raises:
        QuantError: unknown scheme, or one asked for by name of which it can be told beforehand that it cannot be made;
            a device that several processes cannot have; processes that differ in text, software or machine; whatever
            loading and evaluating the baseline raise. What another variant raises is its record's error, in a single
            process whatever it is of bitsandbytes': it must not cost the records of those before it.
    """
    request = processes.together(lambda: _checked(request, processes))
    _check_alike(request, processes)
    names = list(dict.fromkeys((BASELINE, *(request.schemes or VARIANTS))))
    results: list[Result] = []
    baseline: Baseline | None = None
    watch("warming up", 0, len(names))
    with quiet_transformers(), _current(request.device):
        processes.from_main(lambda: _warm_up(request.device))
    for index, name in enumerate(names):
        watch(name, index, len(names))
        try:
            with quiet_transformers(), _current(request.device):
                advance = _inside(watch, name, _scored_here(request, processes))
                result, baseline = _measure(name, request, processes, baseline, advance)
                result = _beside(results[0] if results else result, result)
        except QuantError as error:
            if name == BASELINE:
                raise
            result = Result(name, error=str(error))
        except Exception as error:
            # Of several processes another may have died, which is not bitsandbytes' doing.
            if name not in bitsandbytes.NAMES or processes.size > 1:
                raise
            result = Result(name, error=f"bitsandbytes failed: {type(error).__name__}: {error}")
        results.append(result)
    watch("done", len(names), len(names))
    assert baseline is not None
    return Comparison(
        request.model,
        baseline.measurement.fingerprint,
        request.prompt_tokens,
        request.new_tokens,
        tuple(results),
        processes.size,
        window_tokens=tuple(torch.bincount(request.windows.window_of_token).tolist()),
        positions=position_bins(request.windows),
        command=request.command,
    )


def _checked(request: Request, processes: Processes) -> Request:
    """`request` with the device of this process, once what can be seen without loading a model has been."""
    request = replace(request, device=processes.device(request.device))
    check_device(request.device)
    if request.schemes is not None:
        check_variants(list(request.schemes))
        check_possible(
            *(request.schemes, request.folder, request.dtype),
            *(request.block_size, request.trust_remote_code, request.scale),
        )
    return request


def _check_alike(request: Request, processes: Processes) -> None:
    """Raises:
    QuantError: in some process something is not as in the main one, and its share would be of something else.
    """
    if processes.size == 1:
        return
    first, *others = processes.gather(
        lambda: take_fingerprint(request.windows, request.dtype, request.batch_size, device_name(request.device))
    )
    for rank, other in enumerate(others, 1):
        if details := differences(first, other):
            raise QuantError(
                f"process {rank} would not measure what the main process does, they differ in {details}: give all the "
                "same text, software and kind of machine"
            )


def _current(device: str) -> AbstractContextManager[object]:
    """A GPU by number is torch's current device inside the block, or libraries would set themselves up on the first one
    in every process.
    """
    return torch.cuda.device(device) if device.startswith("cuda:") else nullcontext()


def _scored_here(request: Request, processes: Processes) -> int:
    """Tokens in this process's share of the windows."""
    share = processes.share(request.windows.batch_count(request.batch_size))
    return request.windows.scored_in(request.batch_size, share)


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
    name: str, request: Request, processes: Processes, baseline: Baseline | None, advance: Callable[[int], None]
) -> tuple[Result, Baseline]:
    """The record of one variant, and the baseline to compare the next ones with."""
    before = held_memory()
    loaded, load_seconds = processes.together(lambda: _load(name, request))
    # Before anything runs: bitsandbytes repacks its weights in the first forward.
    sizes = _sizes(loaded) | {"layer_sqnr": processes.from_main(lambda: _weight_errors(loaded.model, request))}
    speeds = processes.from_main(lambda: {"load_seconds": load_seconds, **_speeds(loaded.model, request, before)})
    if baseline is None:
        baseline = Baseline(loaded.model, request.windows, request.batch_size, advance=advance, processes=processes)
        measured = baseline.measurement
        accuracy: dict[str, Any] = {"perplexity": perplexity_of(baseline.losses)}
    else:
        measured = baseline.compare(loaded.model, advance)
        accuracy = _accuracy(paired_accuracy(baseline.measurement, measured))
    profile = vars(loss_profile(baseline.measurement, measured, request.windows))
    scheme = scheme_of(name, request.block_size, request.scale)
    block_size, scale = getattr(scheme, "block_size", None), getattr(scheme, "scale", None)
    return Result(name, block_size=block_size, scale=scale, **sizes, **speeds, **accuracy, **profile), baseline


def _load(name: str, request: Request) -> tuple[LoadedModel, float]:
    """The variant, and the seconds it took; of several processes, all load at once."""
    began = time.perf_counter()
    loaded = load_variant(
        *(name, request.folder, request.dtype, request.device),
        *(request.block_size, request.trust_remote_code, request.scale),
    )
    return loaded, time.perf_counter() - began


def _beside(baseline: Result, result: Result) -> Result:
    """`result` with its size, speed and text in terms of the baseline's (possibly itself)."""
    agrees = None
    if baseline.generated is not None and result.generated is not None:
        pairs = zip(baseline.generated, result.generated, strict=False)
        agrees = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return replace(
        result,
        generated_agrees=agrees,
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
        "offloaded_bytes": offloaded_bytes(loaded.model),
    }


def _weight_errors(model: Any, request: Request) -> dict[str, float]:
    """SQNR of each quantized layer in dB, against the checkpoint."""
    with Inputs(open_checkpoint(request.folder)) as checkpoint:
        return layer_sqnr(model, checkpoint)


def _speeds(model: Any, request: Request, before: HeldMemory) -> dict[str, Any]:
    """The speed and memory fields of a record."""
    prompt = request.windows.ids[: request.prompt_tokens]
    with peak_memory(above=before, devices=accelerators(model)) as memory:
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
