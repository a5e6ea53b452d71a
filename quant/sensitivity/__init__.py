"""Which layers of a model cost the most accuracy when they are quantized: each is measured by itself.

For every linear layer, for every kind of layer (all `mlp.down_proj`, all `self_attn.qkv_proj`, ...) and for all
together, the model is run over the same tokens with only these quantized, and compared with itself in float: KL
divergence and perplexity ratio, with intervals from the paired block bootstrap of `quant.evaluate`. Layers are ranked
by KL divergence: it sees every change of the predictions, where changes of single losses cancel, and so it takes far
fewer tokens to tell two layers apart than the perplexity does.

The model is loaded once. A layer is replaced, measured and put back, the same object, so the model is the same to the
bit afterwards (`quant.convert.quantized_for_a_while`). The baseline's logits are computed once and kept. It takes one
run over the text for each layer, kind and scheme: for a model of n layers about n times what `quant compare` takes for
a scheme, and no second model in memory.

Layers whose quantization makes the logits NaN or infinite are recorded as such, with infinite figures: they rank first.

Refused: a text whose logits do not fit in memory (`Baseline` would recompute them with the model that is being
changed) or in which a token is impossible for the float model, and models that are already quantized.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quant.convert import quantized_for_a_while
from quant.errors import BrokenLogitsError, QuantError
from quant.evaluate.divergence import LIMIT_BYTES, Baseline
from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.limits import vocabulary_size
from quant.evaluate.paired import PairedAccuracy, paired_accuracy
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.statistics import Estimate, exp
from quant.evaluate.windows import TokenWindows
from quant.layer_names import layer_kinds
from quant.schemes import Scheme
from quant.selection import select

ALL = "all layers"
"""The kind of all measured layers together: no layer is called that, as no attribute has a blank in it."""
_INFINITE = Estimate(math.inf, None, "the logits of a quantized model hold NaN or infinite values")
BROKEN = PairedAccuracy(math.inf, math.inf, math.inf, _INFINITE, _INFINITE, top1_agreement=0.0)
"""Of a model whose logits hold NaN or infinite values, whichever they are."""

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

    @property
    def labels(self) -> dict[Scheme, str]:
        """What to call each scheme; see `scheme_labels`."""
        return scheme_labels(one.scheme for one in (*self.layers, *self.kinds))

    def added_up(self, scheme: Scheme) -> float:
        """The perplexity ratio of all layers in `scheme` if what they cost alone adds up, in nats."""
        return exp(sum(one.loss_increase for one in self.layers if one.scheme == scheme))


def scheme_labels(schemes: Iterable[Scheme]) -> dict[Scheme, str]:
    """The name of each scheme, with the options by which it differs from others of that name."""
    distinct = dict.fromkeys(schemes)
    labels = {}
    for scheme in distinct:
        others = [other.options for other in distinct if other.name == scheme.name]
        differing = [
            f"{key}={value}" for key, value in scheme.options.items() if any(o.get(key) != value for o in others)
        ]
        labels[scheme] = " ".join([scheme.name, *differing])
    return labels


def most_scored(config: Any, dtype: torch.dtype, limit_bytes: int = LIMIT_BYTES) -> int | None:
    """Tokens whose logits fit `limit_bytes`, by the vocabulary that `config` says; None where it does not."""
    vocabulary = vocabulary_size(config)
    return None if vocabulary is None else limit_bytes // (vocabulary * dtype.itemsize)


def check_logits(config: Any, dtype: torch.dtype, scored: int, limit_bytes: int = LIMIT_BYTES) -> None:
    """What `kept_baseline` refuses, as far as it can be told without the model.

    Raises:
        QuantError: the logits of `scored` tokens take more than `limit_bytes`.
    """
    most = most_scored(config, dtype, limit_bytes)
    if most is not None and scored > most:
        needed = scored * dtype.itemsize * (vocabulary_size(config) or 0)
        raise QuantError(
            f"the logits of {scored:,} tokens take {needed:,} bytes, more than {limit_bytes:,}: use --max-tokens "
            f"{most} or less"
        )


def kept_baseline(model: Any, windows: TokenWindows, batch_size: int = 8, limit_bytes: int = LIMIT_BYTES) -> Baseline:
    """The float model's losses and logits, in memory.

    Raises:
        QuantError: they take more than `limit_bytes`, a token has probability 0, to which nothing has a finite ratio,
            or what `Baseline` refuses.
    """
    check_logits(getattr(model, "config", None), next(model.parameters()).dtype, windows.scored, limit_bytes)
    baseline = Baseline(model, windows, batch_size, limit_bytes)
    if baseline.keeps_model:
        raise QuantError(f"the logits of {windows.scored:,} tokens take more than {limit_bytes:,} bytes: use fewer")
    impossible = (~torch.isfinite(baseline.losses)).nonzero()[:, 0].tolist()
    if impossible:
        raise QuantError(
            f"the float model gives {len(impossible)} of {windows.scored:,} tokens probability 0, the first is token "
            f"{impossible[0] + 1}, id {int(windows.ids[impossible[0] + 1])}: there is no perplexity to compare with, "
            "use another text"
        )
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
    labels, measured = scheme_labels(schemes), []
    for done, (scheme, what, names) in enumerate(work):
        watch(f"{labels[scheme]}: {what}", done, len(work))
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
        QuantError: a layer cannot be quantized.
    """
    with quantized_for_a_while(model, dict.fromkeys(names, scheme)) as report:
        accuracy = accuracy_beside(baseline, model)
    return Sensitivity(what, tuple(names), scheme, accuracy, report.bytes_before, report.bytes_after)


def accuracy_beside(baseline: Baseline, model: Any) -> PairedAccuracy:
    """Of `model`, run over the windows of `baseline`: `BROKEN` where its logits hold NaN or infinite values."""
    try:
        return paired_accuracy(baseline.measurement, baseline.compare(model))
    except BrokenLogitsError:
        return BROKEN


def kinds_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Kind (`quant.layer_names`) -> the layers of that kind, for the kinds of several layers, and all together."""
    kinds: dict[str, list[str]] = {}
    for name, kind in layer_kinds(names).items():
        kinds.setdefault(kind, []).append(name)
    several = {kind: tuple(layers) for kind, layers in kinds.items() if 1 < len(layers) < len(names)}
    return {**several, ALL: tuple(names)} if len(names) > 1 else several
