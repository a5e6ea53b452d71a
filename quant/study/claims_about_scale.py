"""What comes of the claims where the scale of a block is not its absmax but that of least squared error.

The original report scaled by the absmax alone. Its comparison of levels could hang on that: a scale from the largest
weight wastes the outer levels of some formats more than those of others.
"""

from quant.study.cases import by_size, errors, span
from quant.study.distributions import DISTRIBUTIONS
from quant.study.formats import SEARCHED, absmax_like
from quant.study.records import Study
from quant.study.verdicts import Verdict, judge, judge_sizes, listed, sign_above

SECTION = "scale"


def gains_on_data(study: Study) -> Verdict:
    """Searched scales lose less, whatever the format and the data."""
    signs, spans = {}, []
    for form in SEARCHED:
        gains = []
        for name, distribution in DISTRIBUTIONS.items():
            rows = errors(study, name, form)
            where = f"{absmax_like(form)} on {distribution.title} data"
            signs[where] = min(sign_above(row.against_absmax_interval) for row in rows)
            gains += [row.against_absmax for row in rows if row.against_absmax is not None]
        spans.append(f"{min(gains):+.2f} to {max(gains):+.2f} dB in {absmax_like(form)}")
    word, condition = judge(signs, listed)
    return Verdict(
        "scale, error",
        "Scales of least squared error lose less than absmax scales.",
        "in a format on a distribution: at every block size the interval of the SQNR gained lies above 0",
        word,
        condition,
        f"The SQNR gained is {listed(spans)}.",
        SECTION,
    )


def still_less_error_than_linear(study: Study) -> Verdict:
    """NF4 against int4, both with searched scales."""
    rows = errors(study, "normal", "nf4-mse")
    word, condition = by_size(rows)
    return Verdict(
        "scale, less error than linear",
        "With such scales, too, NF4 loses less than int4 on normally distributed weights.",
        "at a block size: the interval of NF4's SQNR minus int4's, on the same samples, lies above 0",
        word,
        condition,
        f"NF4's SQNR minus int4's is {span(rows)}; with absmax scales {span(errors(study, 'normal', 'nf4'))}.",
        SECTION,
    )


def gains_in_the_model(study: Study) -> Verdict:
    """Whether less error of the weights is less error of the model."""
    rows = sorted((m for m in study.models if m.format == "nf4-mse"), key=lambda m: m.block_size)
    word, condition = judge_sizes({m.block_size: -sign_above(m.against_absmax_interval, 1.0) for m in rows})
    kl = {(m.format, m.block_size): m.kl for m in study.models}
    spans = []
    for form in SEARCHED:
        shares = [value / kl[absmax_like(form), size] for (name, size), value in kl.items() if name == form]
        if shares:
            spans.append(f"{min(shares):.2f} to {max(shares):.2f} times in {absmax_like(form)}")
    return Verdict(
        "scale, accuracy",
        "They cost a model in NF4 less accuracy.",
        "at a block size: the interval of the perplexity over that with absmax scales, same tokens, lies below 1",
        word,
        condition,
        f"The KL divergence is that of absmax scales {listed(spans)}." if spans else "Not measured.",
        SECTION,
    )
