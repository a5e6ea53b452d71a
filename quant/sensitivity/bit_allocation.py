"""Which scheme each layer gets so that a model becomes small within a budget: chosen greedily, held by measuring.

Prediction: the loss (logarithm of the perplexity ratio) that a plan adds is taken for the sum of what its layers add
when they are quantized alone (`quant.sensitivity`). That is an assumption, as in the second-order expansion of the loss
without its mixed terms (Dong et al., "HAWQ-V2", NeurIPS 2020); how far it holds is told, as the predicted ratio beside
the measured one. A layer that seems to gain from being quantized counts as adding nothing, because that is noise; and
so is, on a short text, part of what others add: the more tokens, the better the choice.

Choice: a knapsack with one choice for each layer, solved greedily by Shoham and Gersho, "Efficient bit allocation for
an arbitrary set of quantizers" (IEEE Trans. ASSP 36(9), 1988). Of every layer the choices on the lower convex hull of
(bytes, loss) are kept; they become steps down, each of so many bytes saved for so much loss added, and all steps are
taken in the order of bytes saved per loss added for as long as the predicted ratio stays within the budget. Where the
upper end of the 95 % interval of the plan's measured ratio lies above the budget, the last step is taken back, and so
on. Then layers whose steps were left or taken back get them after all, one layer at a time, those that save the most
bytes first: what is predicted and measured to stay within the budget is kept. That is one run over the text for each
plan, and of the latter `RETAKEN` at most. The plan is a small one, not always the smallest: that would take trying
combinations of layers.

Holding: the plan was chosen for its figures on that text, so they are on the good side. It is measured again on windows
that had no part in the choice, and that is the interval which is held to the budget and reported. Where it is not
within, the least efficient step is taken back and the rest held to the same windows: the more such looks, the more the
interval is on the good side again, so their number is told.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quant.convert import quantized_for_a_while
from quant.errors import QuantError
from quant.evaluate.budgets import MOST_RATIO
from quant.evaluate.divergence import Baseline
from quant.evaluate.paired import PairedAccuracy
from quant.evaluate.statistics import MIN_WINDOWS, exp
from quant.evaluate.windows import TokenWindows
from quant.mixed_precision import MixedPrecision, Provenance
from quant.schemes import Scheme
from quant.selection import linear_layers
from quant.sensitivity import Sensitivities, Sensitivity, Watch, accuracy_beside

RETAKEN = 16
"""Plans that are measured at most to take steps after all that were left or taken back."""


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
    """A plan that was measured to stay within its budget; accuracy: of the whole plan, on what it was held to."""

    plan: MixedPrecision
    provenance: Provenance
    accuracy: PairedAccuracy


def check_budget(budget: float) -> None:
    """budget: how much the perplexity may grow, as a fraction.

    Raises:
        QuantError: NaN, negative, or as much as the perplexity itself.
    """
    if not 0 <= budget < MOST_RATIO - 1:
        raise QuantError(f"a budget of {100 * budget:g} % of the perplexity is none: use 0 % to less than 100 %")


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
    held_to: Baseline,
    measured: Sensitivities,
    budget: float,
    watch: Watch = lambda what, done, total: None,
) -> Proposal | None:
    """A small plan whose perplexity ratio is measured to stay within 1 + `budget`, with its 95 % interval; None where
    none was found. The model is unchanged.

    Args:
        model, baseline, measured: see `quant.sensitivity`; measured has the layers and the schemes to choose from.
        held_to: the model's baseline on windows that had no part in `measured`; the plan is held to these.

    Raises:
        QuantError: a budget that is none, or too few windows for an interval.
    """
    check_budget(budget)
    for windows in (baseline.windows, held_to.windows):
        check_windows(windows)
    search = _Search(model, baseline, budget, watch)
    steps = search.choose(steps_of(measured.layers))
    for looks in range(1, len(steps) + 1):
        accuracy = search.accuracy(steps, held_to)
        interval = accuracy.ratio.interval
        if interval is not None and within(accuracy, budget):
            before = sum({one.name: one.bytes_before for one in measured.layers}.values())
            provenance = Provenance(
                model=measured.model,
                budget=budget,
                fingerprint=asdict(measured.environment),
                predicted_ratio=exp(_loss(steps)),
                measured_ratio=accuracy.ratio.value,
                measured_ratio_ci=interval,
                bytes_before=before,
                bytes_after=before - sum(step.bytes_saved for step in steps),
                held_to=asdict(held_to.measurement.fingerprint),
                tried=search.tried,
                looks=looks,
            )
            schemes = _schemes(steps)
            names = (aliases[0] for aliases in linear_layers(model).values())
            plan = MixedPrecision({name: schemes.get(name) for name in names}, provenance)
            return Proposal(plan, provenance, accuracy)
        steps = steps[:-1]
    return None


def within(accuracy: PairedAccuracy, budget: float) -> bool:
    """Whether the upper end of the perplexity ratio's interval is; without an interval it is not."""
    interval = accuracy.ratio.interval
    return interval is not None and interval[1] <= 1 + budget


class _Search:
    """Plans, as the steps taken, most efficient first, held to `budget` on the windows they are chosen on."""

    def __init__(self, model: Any, baseline: Baseline, budget: float, watch: Watch) -> None:
        self._model, self._baseline, self._budget, self._watch = model, baseline, budget, watch
        self._measured: set[frozenset[Step]] = set()
        self._runs = 0

    @property
    def tried(self) -> int:
        """Plans measured to choose."""
        return len(self._measured)

    def choose(self, steps: list[Step]) -> list[Step]:
        """Those of `steps` (from `steps_of`) to take; none, perhaps."""
        taken = steps[: max(count for count in range(len(steps) + 1) if self._predicted(steps[:count]))]
        while taken and not self._holds(taken):
            taken = taken[:-1]
        refused: set[Step] = set()
        for _ in range(RETAKEN):
            more = [group for group in _left(steps, taken) if group[-1] not in refused]
            more = [group for group in more if self._predicted([*taken, *group])]
            more = [group for group in more if frozenset([*taken, *group]) not in self._measured]
            if not more:
                break
            group = max(more, key=lambda group: sum(step.bytes_saved for step in group))
            larger = [step for step in steps if step in taken or step in group]
            if self._holds(larger):
                taken = larger
            else:
                refused.add(group[-1])
        return taken

    def accuracy(self, steps: Sequence[Step], baseline: Baseline) -> PairedAccuracy:
        """Of the model with these steps taken, on the windows of `baseline`."""
        self._runs += 1
        self._watch(f"plan {self._runs}", self._runs - 1, self._runs)
        with quantized_for_a_while(self._model, _schemes(steps)):
            return accuracy_beside(baseline, self._model)

    def _holds(self, steps: Sequence[Step]) -> bool:
        self._measured.add(frozenset(steps))
        return within(self.accuracy(steps, self._baseline), self._budget)

    def _predicted(self, steps: Sequence[Step]) -> bool:
        return _loss(steps) <= math.log1p(self._budget)


def _schemes(steps: Sequence[Step]) -> dict[str, Scheme]:
    """The scheme of each layer: that of its last step."""
    return {step.layer: step.scheme for step in steps}


def _loss(steps: Sequence[Step]) -> float:
    """What the steps add if losses add up, in nats."""
    return math.fsum(step.loss_added for step in steps)


def _left(steps: Sequence[Step], taken: Sequence[Step]) -> list[list[Step]]:
    """For each layer, its next step that is not taken, its next two, and so on."""
    groups: dict[str, list[list[Step]]] = {}
    for step in steps:
        if step not in taken:
            further = groups.setdefault(step.layer, [])
            further.append([*(further[-1] if further else []), step])
    return [group for further in groups.values() for group in further]


def check_windows(windows: TokenWindows) -> None:
    """Raises:
    QuantError: a plan could not be held to a budget, for there would be no interval.
    """
    count = len(windows.spans)
    if count < MIN_WINDOWS:
        raise QuantError(
            f"a budget is held to the end of an interval on each half of the text, for which {count} windows are too "
            f"few, it takes {MIN_WINDOWS}: pass a longer text or a smaller --window"
        )
