"""Ratios of two times of one run, and the limits they are held to.

What a machine does meanwhile moves both times of a ratio, so a limit on a ratio holds where one on seconds would not. A
limit comes from repeated runs on one machine key: above the mean of the logarithms by Student's prediction bound,

    limit = exp(mean + t(n - 1, 1 - alpha / pairs) * sd * sqrt(1 + 1 / n)),

which one more run of the same code on the same machine exceeds in any of its pairs with probability `ALPHA`. That has
its price. A slowdown to `limit / measured` times as long is seen in every second run, and passes in the others. One to
`limit / low` times as long, where `low` is the same bound below the mean, passes as rarely as a healthy run exceeds the
limit, for the slowed ratio is within the limit where the healthy one is below `low`: that slowdown is what a pair
catches. Neither bound knows how the machine is on another day; runs that are spread over days make both wider.

Ratios are of medians. Minima were tried, in sets of seven and of six short sessions (0.3 to 0.4 s a benchmark) on
two cores of which another job kept one busy. By the standard deviation of the ratio's logarithm over a set's sessions,
minima are narrower for one row, in 13 of 16 cases (in the middle 0.10 and 0.07 against 0.30 and 0.22), and wider in 17
of 22 of 16 rows, 512 rows and quantizing: of few long calls, one side alone may find both cores free. So neither is
better for all. On a machine with nothing else to do they were not compared; runs that are kept have both figures.

A ratio may also have a portable limit, a claim that holds on every machine ("not slower than what it replaces"), whose
reason stands where the pair is declared. A ratio below the same bound on the other side is told and does not fail:
becoming faster is no fault, but a limit that no longer guards should be measured again.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.gating.stored import Run, by_name

ALPHA = 1e-3
"""False alarms per whole run of one machine."""
FEWEST_RUNS = 10
"""With 111 pairs a limit lies t * sqrt(1 + 1 / n) standard deviations above the mean: 26 after 5 runs, 8.6 after 10 and
5.8 after 20. Under a noise of 2 % a ratio rises by 69 %, 19 % or 12 % until every second run sees it: from 5 runs a
limit sees almost nothing, and beyond 10 twice the runs gain a third.
"""


@dataclass(frozen=True)
class Pair:
    """name: of the ratio; numerator, denominator: test ids; portable: the limit on every machine, if there is one."""

    name: str
    numerator: str
    denominator: str
    portable: float | None = None


@dataclass(frozen=True)
class Measured:
    """A ratio's values in `FEWEST_RUNS` or more runs on one machine, and what follows for one more run."""

    values: tuple[float, ...]
    center: float
    low: float
    high: float

    @property
    def catches(self) -> float:
        """The slowdown, 0.2 for a fifth longer, that passes with the probability with which a healthy run is above
        `high`.
        """
        return self.high / self.low - 1


@dataclass(frozen=True)
class Findings:
    """failures: what must turn a run red; notes: what a reader should know; held: pairs that were held to a limit."""

    failures: list[str]
    notes: list[str]
    held: int


def measured_ratios(run: Run, pairs: Sequence[Pair]) -> dict[str, float]:
    """Name -> ratio of the medians, for each pair of which both sides are in the run."""
    medians = {name: benchmark["stats"]["median"] for name, benchmark in by_name(run).items()}
    return {
        pair.name: medians[pair.numerator] / medians[pair.denominator]
        for pair in pairs
        if pair.numerator in medians and medians.get(pair.denominator, 0) > 0
    }


def bounds(values: Sequence[float], alpha: float) -> Measured:
    """What one more run may show, from the `values` of earlier ones: it is above `high` with probability `alpha`, and
    as often below `low`.

    Raises:
        ValueError: for fewer than `FEWEST_RUNS` values.
    """
    from scipy.special import stdtrit  # noqa: PLC0415

    if len(values) < FEWEST_RUNS:
        raise ValueError(f"{len(values)} runs are too few to know their spread: {FEWEST_RUNS} or more")
    logarithms = [math.log(value) for value in values]
    mean, count = statistics.fmean(logarithms), len(values)
    factor = -float(stdtrit(count - 1, alpha))
    reach = factor * statistics.stdev(logarithms) * math.sqrt(1 + 1 / count)
    return Measured(tuple(values), math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def hold(
    ratios: Mapping[str, float], pairs: Sequence[Pair], limits: Mapping[str, Measured] | None, whole: bool
) -> Findings:
    """Hold a run's ratios to their limits.

    Args:
        ratios: of `measured_ratios`.
        pairs: all that there are.
        limits: those of this machine's key, None if nothing was measured on it.
        whole: the run claims to hold every pair, so that one that is missing fails.
    """
    failures, notes, held = [], [], 0
    for pair in pairs:
        if limits is not None and pair.name not in limits:
            failures.append(f"{pair.name}: no limit was measured for it")
        if pair.name not in ratios:
            if whole:
                failures.append(f"{pair.name}: not in this run, of {pair.numerator} and {pair.denominator}")
            continue
        ratio, measured = ratios[pair.name], (limits or {}).get(pair.name)
        held += measured is not None or pair.portable is not None
        if pair.portable is not None and not ratio <= pair.portable:
            failures.append(f"{pair.name}: {ratio:.3f}, above {pair.portable:g}, the limit on every machine")
        if measured and not ratio <= measured.high:
            failures.append(f"{pair.name}: {ratio:.3f}, above {measured.high:.3f} (measured: {measured.center:.3f})")
        elif measured and ratio < measured.low:
            notes.append(f"{pair.name}: {ratio:.3f}, below {measured.low:.3f}: its limit is stale, measure it again")
    names = {pair.name for pair in pairs}
    failures += [f"{name}: has a limit, but is no pair" for name in limits or {} if name not in names]
    if whole and not held:
        failures.append("none of this run's ratios has a limit")
    return Findings(failures, notes, held)
