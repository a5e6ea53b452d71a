"""The original report's claims about NF4, each judged by a rule on the records."""

import math
from collections.abc import Sequence

import numpy as np

from quant.study.cases import apart, by_size, errors, span
from quant.study.distributions import DISTRIBUTIONS
from quant.study.formats import PLAIN
from quant.study.levels import reached
from quant.study.records import Magnitude, Study
from quant.study.verdicts import FAILS, HOLDS, Verdict, judge, judge_sizes, listed, sign_above

EVEN_FACTOR = 1.5
"""Codes whose probabilities are within this factor of 1/16 count as equally likely."""


def equally_likely_codes(study: Study) -> Verdict:
    """Each code of NF4 stands for a sixteenth of normal weights."""
    block_sizes = sorted({code.block_size for code in study.codes})
    ranges = {
        size: _range([c.derived for c in study.codes if (c.format, c.block_size) == ("nf4", size)])
        for size in block_sizes
    }
    built = _range([c.constructed for c in study.codes if (c.format, c.block_size) == ("nf4", block_sizes[0])])
    even = {size: low * 16 >= 1 / EVEN_FACTOR and high * 16 <= EVEN_FACTOR for size, (low, high) in ranges.items()}
    word, condition = judge_sizes({size: 1 if is_even else -1 for size, is_even in even.items()})
    first, last = block_sizes[0], block_sizes[-1]
    entropy = {e.block_size: e.derived for e in study.entropies if e.format == "nf4"}
    return Verdict(
        "distribution awareness",
        "NF4's 16 codes are equally likely on normally distributed weights.",
        f"at a block size: every code's probability is within a factor of {EVEN_FACTOR:g} of 1/16",
        word,
        condition,
        f"In blocks of {first} the probabilities go from {ranges[first][0]:.3f} to {ranges[first][1]:.3f}, in blocks "
        f"of {last} from {ranges[last][0]:.3f} to {ranges[last][1]:.3f} ({entropy[first]:.2f} and {entropy[last]:.2f} "
        "bits of 4); under the normal distribution that the levels were constructed from, "
        f"from {built[0]:.3f} to {built[1]:.3f}.",
        "occupancy",
    )


def denser_near_zero(study: Study) -> Verdict:
    """The gaps between NF4's levels widen away from zero, on each side."""
    levels = reached("nf4")
    widths = np.diff(levels)
    zero = levels.index(0.0)
    widen = bool((np.diff(widths[zero:]) > 0).all() and (np.diff(widths[:zero]) < 0).all())
    even = float(np.diff(reached("int4")).mean())
    return Verdict(
        "bin spacing",
        "NF4's levels are denser near zero.",
        "on each side of zero every gap between levels is wider than the one before it",
        HOLDS if widen else FAILS,
        "",
        f"NF4's gaps are {min(widths):.3f} to {max(widths):.3f} of the absmax wide, and int4's all {even:.3f}, so that "
        f"{sum(width < even for width in widths)} of NF4's {len(widths)} are narrower.",
        "levels",
    )


def precision_by_range(study: Study) -> Verdict:
    """NF4 errs less on small weights and more on large ones."""
    bins = {name: [m for m in study.magnitudes if (m.distribution, m.format) == ("normal", name)] for name in PLAIN}
    signs = {
        "weights below half the absmax": apart(*(_pooled(bins[name], above=False) for name in ("int4", "nf4"))),
        "weights above half the absmax": apart(*(_pooled(bins[name], above=True) for name in ("nf4", "int4"))),
    }
    word, condition = judge(signs, listed)
    pairs = list(zip(bins["nf4"], bins["int4"], strict=True))
    better = [nf4 for nf4, int4 in pairs if apart(int4.interval, nf4.interval) == 1]
    worst, beside = max(pairs, key=lambda pair: pair[0].rmse)
    return Verdict(
        "precision by range",
        "NF4 is more precise for the many small weights and less for the few large ones.",
        "on normal data: NF4's root mean square error is below int4's on weights below half the absmax of their block, "
        "and above it on the others, intervals apart",
        word,
        condition,
        f"In blocks of {worst.block_size} NF4's error is the smaller one in {len(better)} of {len(pairs)} bins of the "
        f"magnitude, with {100 * sum(m.share for m in better):.0f} % of the weights, and largest between "
        f"{worst.low:.2f} and {worst.high:.2f} of the absmax: {worst.rmse:.3f}, where int4's is {beside.rmse:.3f}.",
        "magnitude",
    )


def less_error_on_normal_data(study: Study) -> Verdict:
    """NF4 loses less than evenly spaced levels on normal data."""
    rows = errors(study, "normal", "nf4")
    word, condition = by_size(rows)
    return Verdict(
        "less error than linear, on normal data",
        "On normally distributed weights NF4 loses less than 16 evenly spaced levels with the same scales.",
        "at a block size: the interval of NF4's SQNR minus int4's, on the same samples, lies above 0",
        word,
        condition,
        f"NF4's SQNR minus int4's is {span(rows)}, FP4's {span(errors(study, 'normal', 'fp4'))}.",
        "sqnr",
    )


def less_error_on_the_weights(study: Study) -> Verdict:
    """The same on the model's own weights, layer by layer."""
    block_sizes = sorted({layer.block_size for layer in study.layers})
    total = len({layer.layer for layer in study.layers})
    won = {
        size: [sign_above(layer.interval) for layer in study.layers if layer.block_size == size] for size in block_sizes
    }
    word, condition = judge_sizes({size: min(signs) for size, signs in won.items()})
    differences = [layer.nf4_minus_int4 for layer in study.layers]
    lost = sum(signs.count(-1) for signs in won.values())
    return Verdict(
        "less error than linear, on trained weights",
        "On the model's own weights NF4 loses less than int4 in every layer.",
        "at a block size: the interval of NF4's SQNR minus int4's lies above 0 in every layer; against it speaks one "
        "layer where it lies below",
        word,
        condition,
        f"Of {total} layers at {len(block_sizes)} block sizes, NF4 wins in {sum(s.count(1) for s in won.values())} of "
        f"{len(differences)} cases and int4 in {lost}; the difference goes from {min(differences):+.2f} to "
        f"{max(differences):+.2f} dB.",
        "layers",
    )


def adapts_to_any_data(study: Study) -> Verdict:
    """NF4 wins whatever the data."""
    signs, spans = {}, []
    for name, distribution in DISTRIBUTIONS.items():
        rows = errors(study, name, "nf4")
        signs[distribution.title] = min(sign_above(row.against_int4_interval) for row in rows)
        spans.append(f"{span(rows)} on {distribution.title}")
    word, condition = judge(signs, lambda titles: f"{listed(titles)} data")
    return Verdict(
        "adaptability",
        "Non-linear levels adapt to the data: NF4 does better than int4 on data of every shape.",
        "on a distribution: at every block size the interval of NF4's SQNR minus int4's lies above 0",
        word,
        condition,
        f"NF4's SQNR minus int4's: {listed(spans)} data. Only the scale follows the data, the levels are constants.",
        "sqnr",
    )


def _pooled(bins: Sequence[Magnitude], above: bool) -> tuple[float, float]:
    """Interval of the root mean square error over the bins above half the absmax, or below it: from the bins' bounds,
    which is wider than it need be.
    """
    chosen = [m for m in bins if (m.low >= 0.5 - 1e-9) is above and m.share > 0]
    share = sum(m.share for m in chosen)
    low, high = (math.sqrt(sum(m.share * m.interval[end] ** 2 for m in chosen) / share) for end in (0, 1))
    return low, high


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
