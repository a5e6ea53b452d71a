"""Which scheme each layer gets so that a model is as small as a budget allows: chosen by prediction, held by measuring.

Prediction: the loss (logarithm of the perplexity ratio) that a plan adds is taken for the sum of what its layers add
when they are quantized alone (`quant.sensitivity`). That is an assumption, as in the second-order expansion of the loss
without its mixed terms (Dong et al., "HAWQ-V2", NeurIPS 2020); how far it holds is told, as the predicted ratio beside
the measured one. A layer that seems to gain from being quantized counts as adding nothing, because that is noise; and
so is, on a short text, part of what others add: the more tokens, the better the choice.

Choice: a knapsack with one choice for each layer, solved greedily by Shoham and Gersho, "Efficient bit allocation for
an arbitrary set of quantizers" (IEEE Trans. ASSP 36(9), 1988). Of every layer the choices on the lower convex hull of
(bytes, loss) are kept; they become steps down, each of so many bytes saved for so much loss added, and all steps are
taken in the order of bytes saved per loss added for as long as the predicted ratio stays within the budget. Each plan
on the way is the smallest of its own predicted loss, and what is chosen is larger than the optimum by less than the
first step that was left.

Measuring: the plan as a whole is run over the tokens. Where the upper end of the 95 % interval of its perplexity ratio
lies above the budget, the last step is taken back, and so on, one run over the text for each. The layers were chosen on
the same tokens, so that the measured ratio is a little on the good side: hold the result to another text
(`quant compare`, or the fixture `accuracy_gate`) where much depends on it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quant.convert import quantized_for_a_while
from quant.errors import QuantError
from quant.evaluate.budgets import MOST_RATIO
from quant.evaluate.divergence import Baseline
from quant.evaluate.paired import PairedAccuracy, paired_accuracy
from quant.evaluate.statistics import MIN_WINDOWS, exp
from quant.evaluate.windows import TokenWindows
from quant.mixed_precision import MixedPrecision, Provenance
from quant.schemes import Scheme
from quant.selection import linear_layers
from quant.sensitivity import Sensitivities, Sensitivity, Watch


@dataclass(frozen=True)
class Step:
    """A layer that gets a smaller scheme than it had: bytes_saved, loss_added (nats per token) by that alone."""

    layer: str
    scheme: Scheme
    bytes_saved: int
    loss_added: float

    @property
    def efficiency(self) -> float:
        """Bytes saved per loss added."""
        return self.bytes_saved / self.loss_added if self.loss_added > 0 else math.inf


@dataclass(frozen=True)
class Proposal:
    """A plan that was measured to stay within its budget; accuracy: of the whole plan; tried: plans measured."""

    plan: MixedPrecision
    provenance: Provenance
    accuracy: PairedAccuracy
    tried: int


def parse_budget(text: str) -> float:
    """How much the perplexity may grow, as a fraction: "1%" and "0.01" are 0.01.

    Raises:
        QuantError: no number, a negative one, or as much as the perplexity itself.
    """
    number = text.strip()
    try:
        budget = float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        budget = math.nan
    if not 0 <= budget < MOST_RATIO - 1:
        raise QuantError(f"budget {text!r} is no fraction of the perplexity: write 1% or 0.01, below 100%")
    return budget


def steps_of(layers: Sequence[Sensitivity]) -> list[Step]:
    """The steps from all float to the smallest plan, those that save the most bytes per loss added first.

    Args:
        layers: one measurement for each layer and scheme.
    """
    choices: dict[str, list[Sensitivity]] = {}
    for one in layers:
        choices.setdefault(one.name, []).append(one)
    steps = [step for name, measured in choices.items() for step in _hull(name, measured)]
    return sorted(steps, key=lambda step: -step.efficiency)


def _hull(name: str, measured: Sequence[Sensitivity]) -> list[Step]:
    """The steps of one layer along the lower convex hull of (bytes, loss), from float on."""
    # A scheme that makes a token impossible is no choice: its loss is infinite.
    finite = [one for one in measured if math.isfinite(one.loss_increase)]
    points = {one.scheme: (one.bytes_after, max(0.0, one.loss_increase)) for one in finite}
    nbytes, loss = measured[0].bytes_before, 0.0
    steps: list[Step] = []
    while smaller := {scheme: point for scheme, point in points.items() if point[0] < nbytes}:
        candidates = [Step(name, scheme, nbytes - size, added - loss) for scheme, (size, added) in smaller.items()]
        best = max(candidates, key=lambda step: (step.efficiency, step.bytes_saved))
        steps.append(best)
        nbytes, loss = points[best.scheme]
    return steps


def propose(
    model: Any,
    baseline: Baseline,
    measured: Sensitivities,
    budget: float,
    watch: Watch = lambda what, done, total: None,
) -> Proposal | None:
    """The smallest plan whose perplexity ratio is measured to stay within 1 + `budget`, with its 95 % interval; None
    where not even one layer can be quantized so. The model is unchanged.

    Args:
        model, baseline, measured: see `quant.sensitivity`; measured has the layers and the schemes to choose from.

    Raises:
        QuantError: too few windows for an interval.
    """
    check_windows(baseline.windows)
    steps = steps_of(measured.layers)
    losses = [0.0]
    for step in steps:
        losses.append(losses[-1] + step.loss_added)
    first = max(count for count, loss in enumerate(losses) if loss <= math.log1p(budget))
    for tried, count in enumerate(range(first, 0, -1), 1):
        watch(f"plan {tried}", tried - 1, tried)
        schemes = {step.layer: step.scheme for step in steps[:count]}
        with quantized_for_a_while(model, schemes):
            accuracy = paired_accuracy(baseline.measurement, baseline.compare(model))
        interval = accuracy.ratio.interval
        if interval is not None and interval[1] <= 1 + budget:
            provenance = _provenance(measured, budget, losses[count], accuracy, interval, steps[:count])
            names = (aliases[0] for aliases in linear_layers(model).values())
            plan = MixedPrecision({name: schemes.get(name) for name in names}, provenance)
            return Proposal(plan, provenance, accuracy, tried)
    return None


def check_windows(windows: TokenWindows) -> None:
    """Raises:
    QuantError: a plan could not be held to a budget, for there would be no interval.
    """
    count = len(windows.spans)
    if count < MIN_WINDOWS:
        raise QuantError(
            f"a budget is held to the end of an interval, for which {count} windows are too few, it takes "
            f"{MIN_WINDOWS}: pass a longer text or a smaller --window"
        )


def _provenance(
    measured: Sensitivities,
    budget: float,
    loss: float,
    accuracy: PairedAccuracy,
    interval: tuple[float, float],
    steps: Sequence[Step],
) -> Provenance:
    before = sum({one.name: one.bytes_before for one in measured.layers}.values())
    return Provenance(
        model=measured.model,
        budget=budget,
        fingerprint=asdict(measured.environment),
        predicted_ratio=exp(loss),
        measured_ratio=accuracy.ratio.value,
        measured_ratio_ci=interval,
        bytes_before=before,
        bytes_after=before - sum(step.bytes_saved for step in steps),
    )
