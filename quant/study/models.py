"""The whole model in each format: accuracy and size, each format on the same tokens as the float model and as int4.

Loading, windows, losses, divergences and intervals are those of `quant.evaluate`; what `quant compare` does not have is
the ratio of two formats' perplexities on the same tokens, whose interval is narrower than the distance of their
intervals to the float model suggests. `affine` has no layer of its own: the float model gets the weights that it would
give back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.convert import quantize
from quant.evaluate.divergence import Baseline, Measurement
from quant.evaluate.footprint import footprint
from quant.evaluate.paired import paired_accuracy
from quant.evaluate.statistics import perplexity_ratio
from quant.integrations.transformers import load_model, load_tokenizer
from quant.modules import QuantizedLinear
from quant.sources import REFERENCE, Source, cut_windows, open_source, read_text
from quant.study.formats import AFFINE, absmax_like, int4_like, restore, scheme_of
from quant.study.records import Model
from quant.study.settings import Settings
from quant.study.weights import weights_of


@dataclass(frozen=True)
class Subject:
    """The model of the study: source, its float weights loaded, and the baseline on the held-out text."""

    source: Source
    model: Any
    baseline: Baseline
    prompt: Tensor


def open_subject(settings: Settings, advance: Callable[[int], object]) -> Subject:
    """Load the embedded model in float32 and run it over the text; `advance` gets the number of tokens scored."""
    source = open_source(REFERENCE, "float32")
    text = read_text(None, None)
    windows = cut_windows(source, load_tokenizer(source.folder), text, settings.window, None, "auto", settings.tokens)
    model = load_float(source)
    baseline = Baseline(model, windows, settings.batch_size, advance=advance)
    return Subject(source, model, baseline, windows.ids[: settings.prompt_tokens])


def load_float(source: Source) -> Any:
    """The model, unquantized."""
    return load_model(source.folder, torch.float32)


def load_as(source: Source, name: str, block_size: int) -> Any:
    """The model in the format `name`."""
    model = load_float(source)
    if name != AFFINE:
        return quantize(model, scheme_of(name, block_size))
    for _, weight in weights_of(model):
        weight.copy_(restore(weight, name, block_size).values)
    return model


def measure_models(subject: Subject, settings: Settings, advance: Callable[[int], object]) -> Iterator[Model]:
    """The records, formats within block sizes; `advance` gets the number of tokens scored."""
    for block_size in settings.block_sizes:
        measured: dict[str, Measurement] = {}
        for name in settings.formats:
            model = load_as(subject.source, name, block_size)
            measured[name] = subject.baseline.compare(model, advance)
            yield _record(name, block_size, model, subject, measured)


def _record(name: str, block_size: int, model: Any, subject: Subject, measured: dict[str, Measurement]) -> Model:
    """measured: of this block size, by format, what it is compared with among them."""
    base = subject.baseline.measurement
    paired = paired_accuracy(base, measured[name])

    def over(other: str) -> dict[str, Any]:
        """The ratio to another format, none for the format itself."""
        if name == other:
            return {"value": None, "interval": None}
        return vars(perplexity_ratio(measured[other].losses, measured[name].losses, base.window_of_token))

    int4, absmax = over(int4_like(name)), over(absmax_like(name))
    return Model(
        format=name,
        block_size=block_size,
        bits=4 + 64 / block_size if name == AFFINE else _stored_bits(model),
        footprint_bytes=None if name == AFFINE else footprint(model).total_bytes,
        perplexity=paired.perplexity,
        ratio=paired.ratio.value,
        ratio_interval=paired.ratio.interval,
        against_int4=int4["value"],
        against_int4_interval=int4["interval"],
        against_absmax=absmax["value"],
        against_absmax_interval=absmax["interval"],
        kl=paired.kl.value,
        kl_interval=paired.kl.interval,
        top1=paired.top1_agreement,
    )


def _stored_bits(model: Any) -> float:
    """Bits stored for a quantized weight, scales included."""
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    stored = sum(tensor.numel() * tensor.element_size() for layer in layers for tensor in layer.stored.values())
    return 8 * stored / sum(layer.in_features * layer.out_features for layer in layers)
