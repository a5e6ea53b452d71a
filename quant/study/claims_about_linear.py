"""What the original report weighed of linear against non-linear quantization, each judged by a rule on the records."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from quant.study.cases import apart, errors, kl_apart, models_of, nf4_speeds_over_int4
from quant.study.records import Error, Study
from quant.study.verdicts import Verdict, judge_one, judge_sizes, listed, sign_above, sizes

SLOWER = 0.95
"""A format is called slower than another where its speed is below this share of the other's."""


def better_than_affine_of_equal_size(study: Study) -> Verdict:
    """NF4 beside affine int4 in blocks twice as large, which stores as much."""
    affine = {row.block_size: row for row in errors(study, "normal", "affine")}
    pairs = [
        (row, affine[2 * row.block_size]) for row in errors(study, "normal", "nf4") if 2 * row.block_size in affine
    ]
    word, condition = judge_sizes({nf4.block_size: apart(other.interval, nf4.interval) for nf4, other in pairs})
    above = [db(pair) for pair in pairs]
    span = f"is {min(above):+.2f} to {max(above):+.2f} dB" if above else "was not measured"
    return Verdict(
        "error, beside a zero point of the same size",
        "On normally distributed weights NF4 loses less than affine int4 in blocks twice as large, which takes as much "
        "storage.",
        "at a block size of NF4: its relative squared error on normal data lies below that of affine int4 in blocks "
        "twice as large, their intervals apart",
        word,
        condition,
        f"NF4's SQNR minus affine's {span}.",
        "sqnr",
    )


def slower_to_compute(study: Study) -> Verdict:
    """A non-linear format costs time."""
    ratios = nf4_speeds_over_int4(study)
    interval = median_interval(ratios)
    word = judge_one(-sign_above(interval, SLOWER))
    known = f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else "too few for an interval"
    return Verdict(
        "complexity of computation",
        "Non-linear levels are more complex to compute with, and so slower.",
        "the interval of the median of NF4's decode speed over int4's, over the rounds of all block sizes, lies below "
        f"{SLOWER:g}",
        word,
        "",
        f"In the same kernels NF4 decodes at {np.median(ratios):.2f} times the speed of int4 (median of {len(ratios)} "
        f"rounds, {known}): both look their levels up in a table of 16.",
        "speed",
    )


def less_accuracy_lost(study: Study) -> Verdict:
    """The whole model loses less in NF4 than in int4."""
    rows = list(models_of(study, "nf4").values())
    measured = [row.block_size for row in rows]
    signs = {m.block_size: -sign_above(m.against_int4_interval, 1.0) for m in rows}
    word, condition = judge_sizes(signs)
    ratios = [row.against_int4 for row in rows if row.against_int4 is not None]
    return Verdict(
        "accuracy",
        "The non-linear format costs a model less accuracy than the linear one.",
        "at a block size: the interval of NF4's perplexity over int4's, on the same tokens, lies below 1",
        word,
        condition,
        f"NF4's perplexity is {min(ratios):.4f} to {max(ratios):.4f} times int4's, "
        f"in blocks of {sizes(measured, measured)}.",
        "model",
    )


def closer_to_the_float_model(study: Study) -> Verdict:
    """The same by the KL divergence, which a short text tells better."""
    int4 = models_of(study, "int4")
    pairs = {size: (nf4, int4[size]) for size, nf4 in models_of(study, "nf4").items()}
    word, condition = judge_sizes({size: kl_apart(other, nf4) for size, (nf4, other) in pairs.items()})
    shares = [nf4.kl / other.kl for nf4, other in pairs.values()]
    return Verdict(
        "accuracy, divergence",
        "The non-linear format stays closer to the float model's predictions than the linear one.",
        "at a block size: NF4's KL divergence from the float model lies below int4's, their intervals apart",
        word,
        condition,
        f"NF4's KL divergence is {min(shares):.2f} to {max(shares):.2f} times int4's.",
        "model",
    )


def better_than_affine(study: Study) -> Verdict:
    """NF4 beside int4 with a zero point, which others have found better in small blocks."""
    nf4, affine = (errors(study, "normal", form) for form in ("nf4", "affine"))
    pairs = list(zip(nf4, affine, strict=True))
    signs = {a.block_size: apart(b.interval, a.interval) for a, b in pairs}
    word, condition = judge_sizes(signs)
    first, last = pairs[0], pairs[-1]
    return Verdict(
        "error, beside a zero point",
        "On normally distributed weights NF4 loses less than 16 levels spaced evenly between the least and the largest "
        "weight of a block.",
        "at a block size: NF4's relative squared error on normal data lies below affine int4's, their intervals apart",
        word,
        condition,
        f"NF4's SQNR minus affine's is {db(first):+.2f} dB in blocks of {first[0].block_size} and {db(last):+.2f} dB "
        f"in blocks of {last[0].block_size}; affine stores {first[1].bits:.2f} and {last[1].bits:.2f} bits for a "
        f"weight where NF4 stores {first[0].bits:.2f} and {last[0].bits:.2f}{_kl_beside_affine(study)}.",
        "sqnr",
    )


def memory(study: Study) -> Verdict:
    """Whether the levels cost memory."""
    bytes_of = {(m.format, m.block_size): m.footprint_bytes for m in study.models}
    measured = sorted({size for form, size in bytes_of if form == "nf4"})
    more = {size: (bytes_of["nf4", size] or 0) > (bytes_of["int4", size] or 0) for size in measured}
    same = all(bytes_of["nf4", size] == bytes_of["int4", size] for size in measured)
    word, condition = judge_sizes({size: 1 if is_more else -1 for size, is_more in more.items()})
    sizes_of = [bytes_of["nf4", size] or 0 for size in measured]
    return Verdict(
        "memory",
        "Non-linear levels take more memory than linear ones.",
        "at a block size: the model's footprint in NF4 has more bytes than in int4",
        word,
        condition,
        f"The footprints are {'equal to the byte' if same else 'different'} at every block size; NF4's goes from "
        f"{max(sizes_of):,} to {min(sizes_of):,} bytes, of {study.float_bytes:,} in floats.",
        "model",
    )


def hardware_support(study: Study) -> Verdict:
    """Who else computes with the formats."""
    support = {entry.format: entry for entry in study.support}
    nf4, int4 = support["nf4"], support["int4"]
    sign = (len(int4.torch_operators) > len(nf4.torch_operators)) - (
        len(int4.torch_operators) < len(nf4.torch_operators)
    )
    word = judge_one(sign)
    return Verdict(
        "hardware support, by operators in torch",
        "Linear formats have the wider hardware support.",
        "torch has more operators of its own with int4 in their name than with nf4",
        word,
        "",
        f"torch has {len(int4.torch_operators)} operators for int4 and {len(nf4.torch_operators)} for NF4. "
        f"This CPU's kernels ({', '.join(nf4.kernels) or 'only those of torch'}) run both; in their integers levels "
        f"are rounded by up to {nf4.fixed_point_error:.1e} of the absmax in NF4 and {int4.fixed_point_error:.1e} in "
        "int4.",
        "support",
    )


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Nominal 95 % interval of the median from order statistics (the sign test), which assumes no distribution; None
    for fewer than six values, whose range is not sure enough.
    """
    ordered = sorted(values)
    skip = int(stats.binom.ppf(0.025, len(ordered), 0.5)) - 1
    return (ordered[skip], ordered[-1 - skip]) if skip >= 0 else None


def db(pair: tuple[Error, Error]) -> float:
    """SQNR of the first minus that of the second, in dB."""
    return float(10 * np.log10(pair[1].relative_mse / pair[0].relative_mse))


def _kl_beside_affine(study: Study) -> str:
    """A clause on the model, where it was measured in both."""
    kl = {(m.format, m.block_size): m.kl for m in study.models}
    shares = [f"{kl['nf4', size] / kl['affine', size]:.2f} (blocks of {size})" for form, size in kl if form == "affine"]
    return f". On the model NF4's KL divergence over affine's is {listed(shares)}" if shares else ""
