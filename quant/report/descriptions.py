"""What the figures of the HTML report show, in words with the numbers, for those who do not see them; and the summary.

Every description names each scheme that its figure draws. Layers are told by the best and the worst of a scheme.
"""

from collections.abc import Sequence

from quant.evaluate.loss_profile import PositionBin
from quant.findings import findings
from quant.records import Comparison, Result


def summary(comparison: Comparison) -> Sequence[str]:
    """What the comparison comes to, in a few sentences."""
    found = findings(comparison)
    if found.best is None or found.worst is None:
        return (f"{comparison.model} was measured alone: no quantization scheme was, so there is nothing to compare.",)
    sentences = [_cost(found.best, found.worst)]
    if found.no_difference:
        names = ", ".join(result.scheme for result in found.no_difference)
        sentences.append(f"No difference to the baseline was found for {names}: the 95 % interval contains 1.")
    elif not found.unknown:
        sentences.append("For every scheme the 95 % interval of the perplexity ratio excludes 1.")
    if found.unknown:
        names = ", ".join(result.scheme for result in found.unknown)
        sentences.append(f"Whether that is more than chance is not known for {names}: there is no interval.")
    if found.smallest is not None and found.smallest.times_smaller is not None:
        smallest = found.smallest
        sentences.append(
            f"The smallest is {smallest.scheme}, {smallest.times_smaller:.2f} times smaller than the baseline, at a "
            f"perplexity change of {change(smallest)}."
        )
    if found.fastest is not None and found.fastest.times_faster is not None:
        name, times = found.fastest.scheme, found.fastest.times_faster
        at = f"decoding at {times:.2f} times the baseline's speed"
        found_it = "The fastest here is" if times > 1 else "None is faster than the baseline here, the next is"
        sentences.append(f"{found_it} {name}, {at}.")
    return sentences


def _cost(best: Result, worst: Result) -> str:
    if best is worst:
        return f"{best.scheme} changes the perplexity by {change(best)}."
    return f"Quantizing changes the perplexity by {change(best)} ({best.scheme}) to {change(worst)} ({worst.scheme})."


def change(result: Result) -> str:
    """The change of the perplexity in percent, to three digits."""
    if result.perplexity_relative_change is None:
        return "an unknown amount"
    return f"{100 * result.perplexity_relative_change:+.3g} %"


def accuracy_against_size(comparison: Comparison) -> str:
    """Footprint, change and interval of each scheme."""
    parts = [f"{r.scheme}: {_megabytes(r)}, {change(r)}{_interval(r)}" for r in comparison.measured[1:]]
    return f"The baseline takes {_megabytes(comparison.results[0])}. {_joined(parts)}"


def _interval(result: Result) -> str:
    if result.perplexity_ratio_ci is None:
        return ""
    low, high = (100 * (bound - 1) for bound in result.perplexity_ratio_ci)
    return f" with a 95 % interval from {low:+.3g} % to {high:+.3g} %"


def _megabytes(result: Result) -> str:
    return "an unknown size" if result.footprint_bytes is None else f"{result.footprint_bytes / 1e6:.2f} MB"


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(parts) + "."


def loss_differences(comparison: Comparison) -> str:
    """Median, the middle half and nine tenths of each scheme."""
    parts = []
    for result in comparison.measured[1:]:
        if q := result.loss_difference_quantiles:
            parts.append(
                f"{result.scheme}: median {q['0.5']:+.2g} nats, half of the tokens between {q['0.25']:+.2g} and "
                f"{q['0.75']:+.2g}, nine tenths between {q['0.05']:+.2g} and {q['0.95']:+.2g}"
            )
    return _joined(parts)


def loss_by_position(comparison: Comparison) -> str:
    """The baseline's loss and each scheme's difference with the least and the most context."""
    first, last = comparison.positions[0], comparison.positions[-1]
    losses = comparison.results[0].loss_by_position or (float("nan"),)
    parts = [
        f"{r.scheme} {r.loss_difference_by_position[0]:+.2g} and {r.loss_difference_by_position[-1]:+.2g}"
        for r in comparison.measured[1:]
        if r.loss_difference_by_position
    ]
    return (
        f"The baseline's mean loss is {losses[0]:.2f} nats at {_positions(first)} and {losses[-1]:.2f} at "
        f"{_positions(last)}. Above that, at the same two places, are in nats: {_joined(parts)}"
    )


def _positions(places: PositionBin) -> str:
    if places.first == places.last:
        return f"position {places.first}"
    return f"positions {places.first} to {places.last}"


def memory_by_dtype(comparison: Comparison) -> str:
    """MiB of each dtype of each scheme."""
    parts = []
    for result in comparison.measured:
        sizes = ", ".join(f"{dtype} {size / 2**20:.2f} MiB" for dtype, size in result.bytes_by_dtype.items())
        parts.append(f"{result.scheme}: {sizes}")
    return _joined(parts)


def tokens_per_second(comparison: Comparison) -> str:
    """Decoding and prefill speed of each scheme."""
    parts = []
    for result in comparison.measured:
        speeds = [
            f"{name} {speed:,.0f}"
            for name, speed in (
                ("decode", result.tokens_per_second),
                ("prefill", result.prefill_tokens_per_second),
            )
            if speed is not None
        ]
        parts.append(f"{result.scheme}: {', '.join(speeds) or 'not timed'}")
    return f"Tokens per second. {_joined(parts)}"


def error_by_layer(comparison: Comparison) -> str:
    """The best and the worst layer of each scheme."""
    parts = []
    for result in comparison.measured:
        if result.layer_sqnr:
            ranked = sorted(result.layer_sqnr.items(), key=lambda item: item[1])
            (worst, low), (best, high) = ranked[0], ranked[-1]
            parts.append(f"{result.scheme}: from {low:.1f} dB ({worst}) to {high:.1f} dB ({best})")
    return _joined(parts)
