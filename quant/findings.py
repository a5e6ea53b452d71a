"""What a comparison comes to, in the few results that a reader looks for first; `quant.report` has the words."""

import math
from dataclasses import dataclass

from quant.records import Comparison, Result


@dataclass(frozen=True)
class Findings:
    """Of the quantized schemes of a comparison; None or empty where nothing was measured to tell.

    Attributes:
        best, worst: of the lowest and the highest perplexity ratio.
        no_difference: those whose 95 % interval of the ratio contains 1.
        unknown: those that have no interval.
        smallest, fastest: of the smallest footprint, and of the most decoded tokens per second.
    """

    best: Result | None
    worst: Result | None
    no_difference: tuple[Result, ...]
    unknown: tuple[Result, ...]
    smallest: Result | None
    fastest: Result | None


def findings(comparison: Comparison) -> Findings:
    """Ties go to the scheme that comes first."""
    quantized = comparison.measured[1:]
    intervals = [(result, result.perplexity_ratio_ci) for result in quantized]
    rated = [(_worse_if_undefined(result.perplexity_ratio), result) for result in quantized]
    sized = [(result.footprint_bytes, result) for result in quantized if result.footprint_bytes is not None]
    timed = [(result.tokens_per_second, result) for result in quantized if result.tokens_per_second is not None]
    return Findings(
        best=min(rated, key=_first)[1] if rated else None,
        worst=max(rated, key=_first)[1] if rated else None,
        no_difference=tuple(result for result, ci in intervals if ci is not None and ci[0] <= 1 <= ci[1]),
        unknown=tuple(result for result, ci in intervals if ci is None),
        smallest=min(sized, key=_first)[1] if sized else None,
        fastest=max(timed, key=_first)[1] if timed else None,
    )


def _first(pair: tuple[float, Result]) -> float:
    return pair[0]


def _worse_if_undefined(ratio: float | None) -> float:
    return math.inf if ratio is None or math.isnan(ratio) else ratio
