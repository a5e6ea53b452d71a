"""Ratios of two times of one run, and the limits they are held to.

What a machine does meanwhile moves both times of a ratio, so a limit on a ratio holds where one on seconds would not. A
limit comes from repeated runs on one machine key: above the mean of the logarithms by Student's prediction bound,

    limit = exp(mean + t(df, 1 - alpha / pairs) * max(pooled, own) * sqrt(1 + 1 / runs)).

`pooled` is the standard deviation over all pairs of one class (as many rows of x, generating, quantizing), the root of
the mean of their variances: of one pair alone ten runs tell so little that t is 8.2, with the 144 degrees of freedom of
a class 4.4. A class has runs - 1 of them for each distinct denominator, because what befalls a denominator moves all of
its pairs. That is a choice. With equal and independent noise in every time, the pairs of the five classes are worth 20,
20, 20, 4.5 and 5.1 independent ones (Satterthwaite), counted as 16, 16, 16, 4 and 6. By the covariances of the runs in
ratios.json they are worth about 4, 11, 20, 4 and 4: with 4 for one row, t would be 4.9.

`own` is the pair's, for a class does not scatter evenly: of one row, some pairs vary by twice `pooled`. No limit is
then below a value that it was measured from, which lies at most (runs - 1) / sqrt(runs) own deviations from the mean,
2.8 of ten runs. And a pair that scatters however much more than its class fails in at most 0.8 of 1000 runs, the tail
of t(9) above 4.4. Taking `own` only where an F test at 1 % tells it from `pooled` would miss a quarter of the pairs
with twice the deviation. How often a healthy run fails, simulated: in 0.6 of 1000 with equal noise in every time, and
in 9 of 1000 if the covariances of ten runs, an exaggeration, were the truth (with the F test 33, with `pooled` alone
78).

That has its price. A slowdown to `limit / measured` times as long is seen in every second run, and passes in the
others. One to `limit / low` times as long, where `low` is the same bound below the mean, passes as rarely as a healthy
run exceeds the limit, for the slowed ratio is within the limit where the healthy one is below `low`: that slowdown is
what a pair catches. Neither bound knows how the machine is on another day; runs that are spread over days make both
wider.

Ratios are of first quartiles over a benchmark's rounds. In the runs of ratios.json, on a machine with nothing else to
do, a burst hit half of a benchmark's rounds or more three times, which a median follows: with one run left out, its
ratios of medians are up to 8.3 pooled deviations from the mean of the others (0.3 % beyond 6.3), of first quartiles 3.9
(3.6) and of minima 4.0 (3.2). The deviations `pooled`, for one row, 16 and 512 rows, generating and quantizing, are
0.095, 0.049, 0.057, 0.061 and 0.077 of medians, 0.080, 0.043, 0.044, 0.058 and 0.070 of first quartiles, and 0.088,
0.047, 0.045, 0.058 and 0.065 of minima. A minimum is one round, the luckiest: beside a job that kept one of two cores
busy, minima were wider than medians in 17 of 22 ratios of 16 rows, 512 rows and quantizing, where one side alone may
find both cores free.

A ratio may also have a portable limit, a claim that holds on every machine ("not slower than what it replaces"), whose
reason stands where the pair is declared. A ratio below the same bound on the other side is told and does not fail:
becoming faster is no fault. But the ratio alone does not say so: what it is compared with may have become slower, by a
neighbour's work, and a slowdown of ours would hide behind it. A limit that such ratios no longer come near guards
nothing, and should be measured again.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.gating.stored import Run, by_name

ALPHA = 1e-3
"""False alarms per whole run of one machine, where the ratios of a class scatter alike."""
FEWEST_RUNS = 10
"""With 111 pairs a limit lies t * sqrt(1 + 1 / n) deviations above the mean: of a class of 16 denominators 5.1 after 5
runs, 4.7 after 10 and 4.5 after 20, of one of 4 denominators 6.6, 5.2 and 4.7. Five runs are less than they seem where
pairs move together, and let a pair that scatters more than its class fail in 5 of 1000 runs, the tail of t(4).
"""
STATISTIC = "q1"
"""Of what pytest-benchmark records of a benchmark's rounds: what ratios are of."""


@dataclass(frozen=True)
class Pair:
    """name: of the ratio; numerator, denominator: test ids; group: the class of ratios that scatter alike; portable:
    the limit on every machine, if there is one.
    """

    name: str
    numerator: str
    denominator: str
    group: str
    portable: float | None = None


@dataclass(frozen=True)
class Series:
    """A pair's ratio in each of several runs on one machine, and the pair's group and denominator."""

    values: tuple[float, ...]
    group: str
    denominator: str


@dataclass(frozen=True)
class Scatter:
    """deviation: of a ratio's logarithm from run to run, pooled over one class; degrees: of freedom."""

    deviation: float
    degrees: int


@dataclass(frozen=True)
class Measured:
    """What one more run may show of a ratio: `center` is the geometric mean of those before."""

    center: float
    low: float
    high: float

    @property
    def catches(self) -> float:
        """The slowdown, 0.2 for a fifth longer, that passes with the probability with which a healthy run is above
        `high`.
        """
        return self.high / self.low - 1


def file_of(test: str) -> str:
    """The file of a test id."""
    return test.partition("::")[0]


def times_of(run: Run) -> dict[str, float]:
    """Test id -> the first quartile of its rounds, in seconds."""
    return {name: benchmark["stats"][STATISTIC] for name, benchmark in by_name(run).items()}


def measured_ratios(times: Mapping[str, float], pairs: Sequence[Pair]) -> dict[str, float]:
    """Name -> ratio, for each pair of which both sides have a time. times: of `times_of`."""
    return {
        pair.name: times[pair.numerator] / times[pair.denominator]
        for pair in pairs
        if pair.numerator in times and times.get(pair.denominator, 0) > 0
    }


def scatters(measured: Mapping[str, Series]) -> dict[str, Scatter]:
    """Group -> how its ratios scatter.

    Raises:
        ValueError: for fewer than `FEWEST_RUNS` runs, or if ratios are not of equally many.
    """
    runs = {len(each.values) for each in measured.values()}
    if min(runs) < FEWEST_RUNS:
        raise ValueError(f"{min(runs)} runs are too few to know their spread: {FEWEST_RUNS} or more")
    if len(runs) > 1:
        raise ValueError(f"ratios are of {min(runs)} runs and of {max(runs)}")
    found = {}
    for group in dict.fromkeys(each.group for each in measured.values()):
        members = [each for each in measured.values() if each.group == group]
        pooled = statistics.fmean([own_deviation(each.values) ** 2 for each in members])
        denominators = {each.denominator for each in members}
        found[group] = Scatter(math.sqrt(pooled), (min(runs) - 1) * len(denominators))
    return found


def own_deviation(values: Sequence[float]) -> float:
    """The standard deviation of the logarithms."""
    return statistics.stdev(map(math.log, values))


def limits(measured: Mapping[str, Series], alpha: float = ALPHA) -> dict[str, Measured]:
    """Name -> what one more run may show: with probability `alpha` one of all these ratios is above its `high`, and as
    often one is below its `low`.

    Raises:
        ValueError: as `scatters`.
    """
    of_group = scatters(measured)
    return {name: bounds(each.values, of_group[each.group], alpha / len(measured)) for name, each in measured.items()}


def bounds(values: Sequence[float], scatter: Scatter, alpha: float) -> Measured:
    """What one more run may show of the ratio that had `values`, at `alpha` on either side."""
    from scipy.special import stdtrit  # noqa: PLC0415

    mean = statistics.fmean(map(math.log, values))
    deviation = max(scatter.deviation, own_deviation(values))
    reach = -float(stdtrit(scatter.degrees, alpha)) * deviation * math.sqrt(1 + 1 / len(values))
    return Measured(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))
