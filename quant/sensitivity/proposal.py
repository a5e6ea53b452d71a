"""The smallest mixed precision that keeps a model within a budget: predicted from single layers, held by measuring.

Prediction: the loss (logarithm of the perplexity ratio) that a plan adds is taken for the sum of what its layers add
when they are quantized alone (`quant.sensitivity`). That is an assumption, as in the second-order expansion of the loss
without its mixed terms (Dong et al., "HAWQ-V2", NeurIPS 2020); how far it holds is told, as the predicted ratio beside
the measured one. On a short text part of what layers seem to add is noise: the more tokens, the better the choice.

Choice: the smallest plan that is predicted to stay within the budget (`quant.sensitivity.bit_allocation`) is measured
as a whole. Where the upper end of the 95 % interval of its ratio lies above the budget, it gets more bytes, and those
plans are measured that lose least for their bytes, halving the bytes between one that held and one that did not,
`HALVINGS` times at most. So the plan is the smallest to within a thousandth of what quantizing everything can save, as
far as what plans lose grows with what they are predicted to. That is one run over the text for each plan.

Holding: the plan was chosen for its figures on that text, so they are on the good side. It is measured again on windows
that had no part in the choice, and that is the interval which is held to the budget and reported. Where it is not
within, a sixteenth of the bytes that the plan saves is given back, and the next one is held to the same windows: the
more such looks, the more the interval is on the good side again, so their number is told.
"""

import math
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
from quant.selection import linear_layers
from quant.sensitivity import Sensitivities, Watch, accuracy_beside
from quant.sensitivity.bit_allocation import Allocation, Frontier, choices_of

HALVINGS = 10
"""Plans that are measured at most between one that is too small and one that is not."""
LOOKS = 16
"""Plans that are held to other windows at most; each gives back that part of the bytes saved."""


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


def propose(
    model: Any,
    baseline: Baseline,
    held_to: Baseline,
    measured: Sensitivities,
    budget: float,
    watch: Watch = lambda what, done, total: None,
) -> Proposal | None:
    """The smallest plan whose perplexity ratio is measured to stay within 1 + `budget`, with its 95 % interval; None
    where none was found. The model is unchanged.

    Args:
        model, baseline, measured: see `quant.sensitivity`; measured has the layers and the schemes to choose from.
        held_to: the model's baseline on windows that had no part in `measured`; the plan is held to these.

    Raises:
        QuantError: a budget that is none, or too few windows for an interval.
    """
    check_budget(budget)
    for windows in (baseline.windows, held_to.windows):
        check_windows(windows)
    before = sum({one.name: one.bytes_before for one in measured.layers}.values())
    search = _Search(model, Frontier(choices_of(measured.layers)), before, budget, watch)
    chosen = search.choose(baseline)
    tried = search.runs
    found = search.hold(chosen, held_to)
    if found is None:
        return None
    allocation, accuracy = found
    interval = accuracy.ratio.interval
    assert interval is not None  # it is what was held to the budget
    provenance = Provenance(
        model=measured.model,
        budget=budget,
        fingerprint=asdict(measured.environment),
        predicted_ratio=exp(allocation.loss),
        measured_ratio=accuracy.ratio.value,
        measured_ratio_ci=interval,
        bytes_before=before,
        bytes_after=allocation.nbytes,
        held_to=asdict(held_to.measurement.fingerprint),
        tried=tried,
        looks=search.runs - tried,
    )
    schemes = dict(allocation.schemes)
    names = (aliases[0] for aliases in linear_layers(model).values())
    plan = MixedPrecision({name: schemes.get(name) for name in names}, provenance)
    return Proposal(plan, provenance, accuracy)


def within(accuracy: PairedAccuracy, budget: float) -> bool:
    """Whether the upper end of the perplexity ratio's interval is; without an interval it is not."""
    interval = accuracy.ratio.interval
    return interval is not None and interval[1] <= 1 + budget


class _Search:
    """Plans held to `budget` by measuring. runs: how many were measured."""

    def __init__(self, model: Any, plans: Frontier, float_bytes: int, budget: float, watch: Watch) -> None:
        self._model, self._plans, self._budget, self._watch = model, plans, budget, watch
        self._float_bytes = float_bytes
        self.runs = 0

    def choose(self, baseline: Baseline) -> Allocation:
        """The smallest plan that holds on the windows of `baseline`; all float, perhaps."""
        plan = self._plans.smallest(math.log1p(self._budget))
        best = Allocation((), self._float_bytes, 0.0)
        if not plan.schemes or self._held(plan, baseline) is not None:
            return plan
        too_small, too_few = plan, plan.nbytes
        while best.nbytes - too_few > 1 and self.runs <= HALVINGS:
            most_bytes = (too_few + best.nbytes) // 2
            plan = self._plans.within(most_bytes)
            if plan != too_small and self._held(plan, baseline) is not None:
                best = plan
            else:
                too_small, too_few = plan, most_bytes
        return best

    def hold(self, plan: Allocation, baseline: Baseline) -> tuple[Allocation, PairedAccuracy] | None:
        """The first plan, from `plan` to ever larger ones, that holds on the windows of `baseline`, and how it does."""
        saved, before = self._float_bytes - plan.nbytes, None
        for part in range(LOOKS, 0, -1):
            if not plan.schemes:
                break
            if plan != before and (accuracy := self._held(plan, baseline)) is not None:
                return plan, accuracy
            before, plan = plan, self._plans.within(self._float_bytes - saved * (part - 1) // LOOKS)
        return None

    def _held(self, plan: Allocation, baseline: Baseline) -> PairedAccuracy | None:
        """How accurate the model is with `plan`, on the windows of `baseline`; None if not within the budget."""
        self.runs += 1
        self._watch(f"plan {self.runs}", self.runs - 1, self.runs)
        with quantized_for_a_while(self._model, dict(plan.schemes)):
            accuracy = accuracy_beside(baseline, self._model)
        return accuracy if within(accuracy, self._budget) else None
