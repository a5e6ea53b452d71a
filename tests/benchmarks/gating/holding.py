"""Holding one run's ratios to their limits, and saying what came of it.

Of a ratio that is below what was measured, nobody knows which side moved, so both are named with their seconds. Ratios
that are missing are told together, as a run that leaves out a file lacks a hundred of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.gating.failures import Failure
from tests.benchmarks.gating.ratios import Measured, Pair, file_of, measured_ratios

NAMED = 4
"""Absent benchmarks that are named for each test function; the others are counted."""


@dataclass(frozen=True)
class Findings:
    """failures: what must turn a run red; notes: what a reader should know; held: how many ratios were held to a limit,
    and of which kind.
    """

    failures: list[Failure]
    notes: list[str]
    held: str


def hold(
    times: Mapping[str, float], pairs: Sequence[Pair], limits: Mapping[str, Measured] | None, whole: bool
) -> Findings:
    """Hold a run's ratios to their limits.

    Args:
        times: of `times_of`.
        pairs: all that there are.
        limits: those of this machine's key, None if nothing was measured on it; unless `whole`, of the benchmarks in
            files that ran, and no limit is missed for pairs of others.
        whole: the run claims to hold every pair, so that one that is missing fails.
    """
    files = {file_of(test) for test in times}
    ratios, measured = measured_ratios(times, pairs), limits or {}
    present = [pair for pair in pairs if pair.name in ratios]
    ran = [pair for pair in pairs if whole or file_of(pair.numerator) in files]
    failures = [] if limits is None else unlike(ran, limits)
    if whole:
        failures += missing(times, [pair for pair in pairs if pair.name not in ratios])
    for pair in present:
        failures += above(pair, ratios[pair.name], measured.get(pair.name))
    portable = sum(pair.portable is not None for pair in present)
    own = sum(pair.name in measured for pair in present)
    held = sum(pair.portable is not None or pair.name in measured for pair in present)
    if whole and not held:
        failures.append(Failure("none of this run's ratios has a limit", "no ratio has a limit", 0))
    notes = below(times, [pair for pair in present if pair.name in measured], measured)
    sorts = f": {own} to one measured on this machine, {portable} to one that holds on every machine" if held else ""
    return Findings(failures, notes, f"{held} of {len(pairs)} ratios held to a limit{sorts}")


def unlike(pairs: Sequence[Pair], limits: Mapping[str, Measured]) -> list[Failure]:
    """Pairs without a limit and limits without a pair."""
    names = {pair.name for pair in pairs}
    unmeasured = [f"{pair.name}: no limit was measured for it" for pair in pairs if pair.name not in limits]
    unknown = [f"{name}: has a limit, but is no pair" for name in limits if name not in names]
    kinds = {"ratio without a limit": unmeasured, "limit without a ratio": unknown}
    return [Failure(line, kind) for kind, found in kinds.items() for line in found]


def missing(times: Mapping[str, float], pairs: Iterable[Pair]) -> list[Failure]:
    """A failure for each test function, of the `pairs` whose ratio this run lacks: which benchmarks have no time."""
    functions: dict[str, list[Pair]] = {}
    for pair in pairs:
        functions.setdefault(pair.numerator.partition("[")[0], []).append(pair)
    failures = []
    for function, of_it in functions.items():
        sides = dict.fromkeys(side for pair in of_it for side in (pair.numerator, pair.denominator))
        absent = [side.removeprefix(f"{function}[").removesuffix("]") for side in sides if not times.get(side, 0) > 0]
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        line = f"{function}: ratios missing: {len(of_it)}; not in this run: {', '.join(absent[:NAMED])}{more}"
        failures.append(Failure(line, "ratio missing", len(of_it)))
    return failures


def above(pair: Pair, ratio: float, measured: Measured | None) -> list[Failure]:
    """A failure that names the limits a ratio is above; one that is no number is above each."""
    found = []
    if pair.portable is not None and not ratio <= pair.portable:
        found.append(f"above {pair.portable:g}, the limit on every machine")
    if measured and not ratio <= measured.high:
        found.append(f"above {measured.high:.3f} (measured: {measured.center:.3f})")
    return [Failure(f"{pair.name}: {ratio:.3f}, {' and '.join(found)}", "ratio above a limit")] if found else []


def below(times: Mapping[str, float], pairs: Sequence[Pair], measured: Mapping[str, Measured]) -> list[str]:
    """Notes of the ratios that are below what one more run may show, which the time of either side may explain."""
    notes = []
    for pair in pairs:
        ours, theirs, bounds = times[pair.numerator], times[pair.denominator], measured[pair.name]
        if ours / theirs < bounds.low:
            notes.append(
                f"{pair.name}: {ours / theirs:.3f}, below {bounds.low:.3f} (measured: {bounds.center:.3f}): "
                f"either the first got faster ({ours:.4g} s in this run) or the second slower ({theirs:.4g} s)"
            )
    if notes:
        notes.append(
            "a slowdown hides behind ratios below what was measured: run again on a machine with nothing else to do, "
            "and if they stay there, measure the limits anew (docs/benchmarks.md)"
        )
    return notes
