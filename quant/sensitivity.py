"""Which layers of a model cost the most accuracy when they are quantized: each is measured by itself.

For every linear layer, for every kind of layer (all `down_proj`, all `qkv_proj`, ...) and for all together, the model
is run over the same tokens with only these quantized, and compared with itself in float: KL divergence and perplexity
ratio, with intervals from the paired block bootstrap of `quant.evaluate`. Layers are ranked by KL divergence: it sees
every change of the predictions, where changes of single losses cancel, and so it takes far fewer tokens to tell two
layers apart than the perplexity does.

The model is loaded once. A layer is replaced, measured and put back, the same object, so the model is the same to the
bit afterwards (`quant.convert.quantized_for_a_while`). The baseline's logits are computed once and kept. It takes one
run over the text for each layer, kind and scheme: for a model of n layers about n times what `quant compare` takes for
a scheme, and no second model in memory.

Refused: a text whose logits do not fit in memory (`Baseline` would recompute them with the model that is being
changed), and models that are already quantized.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quant.convert import quantized_for_a_while
from quant.errors import QuantError
from quant.evaluate.divergence import LIMIT_BYTES, Baseline
from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.limits import vocabulary_size
from quant.evaluate.paired import PairedAccuracy, paired_accuracy
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.windows import TokenWindows
from quant.schemes import Scheme
from quant.selection import select

ALL = "all"
"""The kind of all measured layers together."""

Watch = Callable[[str, int, int], None]
"""Called as watch(what, done, total) before each measurement."""


@dataclass(frozen=True)
class Sensitivity:
    """What it costs to quantize some layers and no other.

    Attributes:
        name: of the layer, or of the kind; layers: which; scheme: what they were quantized with.
        accuracy: of the model with them, beside the float model.
        bytes_before, bytes_after: of their weights (scales included, biases not).
    """

    name: str
    layers: tuple[str, ...]
    scheme: Scheme
    accuracy: PairedAccuracy
    bytes_before: int
    bytes_after: int

    @property
    def loss_increase(self) -> float:
        """Mean over tokens of the loss minus the float model's, in nats: the logarithm of the perplexity ratio."""
        return math.log(self.accuracy.ratio.value)


@dataclass(frozen=True)
class Sensitivities:
    """All measurements of one model.

    Attributes:
        model: name to show; environment: what it was measured on and with; perplexity: of the float model.
        layers, kinds: for each scheme in turn, the most sensitive first.
        left: name -> reason, for the linear layers that were not measured.
    """

    model: str
    environment: Fingerprint
    perplexity: float
    layers: tuple[Sensitivity, ...]
    kinds: tuple[Sensitivity, ...]
    left: dict[str, str]


def kept_baseline(model: Any, windows: TokenWindows, batch_size: int = 8, limit_bytes: int = LIMIT_BYTES) -> Baseline:
    """The float model's losses and logits, in memory.

    Raises:
        QuantError: they take more than `limit_bytes`, or what `Baseline` refuses.
    """
    vocabulary = vocabulary_size(getattr(model, "config", None))
    if vocabulary is not None:
        per_token = vocabulary * next(model.parameters()).element_size()
        if windows.scored * per_token > limit_bytes:
            raise QuantError(
                f"the logits of {windows.scored:,} tokens take {windows.scored * per_token:,} bytes, more than "
                f"{limit_bytes:,}: use --max-tokens {limit_bytes // per_token} or less"
            )
    baseline = Baseline(model, windows, batch_size, limit_bytes)
    if baseline.keeps_model:
        raise QuantError(f"the logits of {windows.scored:,} tokens take more than {limit_bytes:,} bytes: use fewer")
    return baseline


def measure_sensitivities(
    name: str,
    model: Any,
    baseline: Baseline,
    schemes: Sequence[Scheme],
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    watch: Watch = lambda what, done, total: None,
) -> Sensitivities:
    """Measure every layer and every kind under each of `schemes`.

    Args:
        name: of the model, to show; model: in float, unchanged afterwards; baseline: its own, from `kept_baseline`.
        include, exclude: globs of the layers to measure, as for `quant.quantize`: the head only where it is named.

    Raises:
        QuantError: no such layers, or one that cannot be quantized.
    """
    selection = select(model, include, exclude)
    groups = [*((layer, (layer,)) for layer in selection.chosen), *kinds_of(selection.chosen).items()]
    work = [(scheme, what, names) for scheme in schemes for what, names in groups]
    measured = []
    for done, (scheme, what, names) in enumerate(work):
        watch(f"{scheme.name}: {what}", done, len(work))
        measured.append(measure_together(what, model, baseline, names, scheme))
    watch("done", len(work), len(work))
    ranked = sorted(measured, key=lambda one: (schemes.index(one.scheme), -one.accuracy.kl.value))
    return Sensitivities(
        name,
        baseline.measurement.fingerprint,
        perplexity_of(baseline.losses),
        tuple(one for one in ranked if len(one.layers) == 1),
        tuple(one for one in ranked if len(one.layers) > 1),
        selection.left,
    )


def measure_together(what: str, model: Any, baseline: Baseline, names: Sequence[str], scheme: Scheme) -> Sensitivity:
    """Measure `model` with the layers called `names` quantized; it is unchanged afterwards. what: their name to show.

    Raises:
        QuantError: a layer cannot be quantized, or the model's logits become NaN or infinite.
    """
    with quantized_for_a_while(model, dict.fromkeys(names, scheme)) as report:
        accuracy = paired_accuracy(baseline.measurement, baseline.compare(model))
    return Sensitivity(what, tuple(names), scheme, accuracy, report.bytes_before, report.bytes_after)


def kinds_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Kind -> the layers of that kind, for the kinds of several layers, and all together.

    The kind of a layer is the last component of its name that is no number: `model.layers.0.mlp.down_proj` is a
    `down_proj`, `layers.3` one of `layers`.
    """
    kinds: dict[str, list[str]] = {}
    for name in names:
        words = [part for part in name.split(".") if not part.isdecimal()]
        kinds.setdefault(words[-1] if words else name, []).append(name)
    several = {kind: tuple(layers) for kind, layers in kinds.items() if 1 < len(layers) < len(names)}
    return {**several, ALL: tuple(names)} if len(names) > 1 else several
