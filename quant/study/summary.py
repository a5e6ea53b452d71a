"""The page's conclusion: three sentences on the whole model, for those who read no further.

They are of the same records as the verdicts, and by the same signs (`cases.kl_apart`). Each says of every block size on
which side it fell, so that no exception is lost in a range, and where its format was not measured it says that: a
shortened run has a conclusion too. What they leave to the claims is the data, the layers and the perplexity.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from quant.study.cases import kl_apart, models_of, nf4_speeds_over_int4
from quant.study.claims_about_linear import median_interval
from quant.study.formats import AFFINE
from quant.study.records import Model, Study
from quant.study.verdicts import listed, sizes

Pairs = Mapping[int, tuple[Model, Model]]
"""Block size, ascending -> the whole model in two formats."""
DIVERGENCE = {-1: "lower", 1: "higher", 0: "left open"}
FOOTPRINT = {-1: "smaller", 1: "larger", 0: "equal to the byte"}


def in_short(study: Study) -> tuple[str, ...]:
    """Markdown, a sentence each: NF4 beside int4, beside affine int4, and with scales of least squared error."""
    return beside_int4(study), beside_affine(study), with_searched_scales(study)


def beside_int4(study: Study) -> str:
    """Divergence, bytes and decode speed."""
    pairs = _pairs(study, "nf4", "int4")
    more = {size: (nf4.footprint_bytes or 0) - (int4.footprint_bytes or 0) for size, (nf4, int4) in pairs.items()}
    footprint = _where({size: (more[size] > 0) - (more[size] < 0) for size in pairs}, FOOTPRINT)
    speeds = nf4_speeds_over_int4(study)
    interval = median_interval(speeds)
    known = f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else "too few rounds for an interval"
    return (
        f"In blocks of {sizes(list(pairs), list(pairs))} weights NF4's KL divergence from the float model is "
        f"{_ratios(pairs)} times that of `int4`, whose levels are evenly spaced ({_where(_signs(pairs), DIVERGENCE)}), "
        f"its footprint is {footprint}, and it decodes at {np.median(speeds):.2f} times the speed (median, {known})."
    )


def beside_affine(study: Study) -> str:
    """Where int4 with a zero point is closer to the float model, and what it stores for that."""
    pairs = _pairs(study, AFFINE, "nf4")
    if not pairs:
        return "`affine`, int4 with a zero point, was not measured on the model."
    signs = _signs(pairs)
    rest = _where(signs, {sign: word for sign, word in DIVERGENCE.items() if sign != -1})
    closer = [size for size, sign in signs.items() if sign == -1]
    if not closer:
        return f"`affine`, int4 with a zero point, has a lower KL divergence than NF4 at no block size ({rest})."
    ends = [pairs[size] for size in (closer[0], closer[-1])]
    affine, nf4 = (" to ".join(dict.fromkeys(f"{pair[of].bits:.2f}" for pair in ends)) for of in (0, 1))
    return (
        f"`affine`, int4 with a zero point, has a lower KL divergence than NF4 {_places(closer, list(pairs))}, where "
        f"it stores {affine} bits for a weight and NF4 {nf4}{f' ({rest})' if rest else ''}."
    )


def with_searched_scales(study: Study) -> str:
    """What scales of least squared error do to NF4's divergence."""
    pairs = _pairs(study, "nf4-mse", "nf4")
    if not pairs:
        return '`scale="mse"` was not measured on the model.'
    return (
        f'With `scale="mse"` NF4\'s KL divergence is {_ratios(pairs)} times that with absmax scales '
        f"({_where(_signs(pairs), DIVERGENCE)})."
    )


def _pairs(study: Study, form: str, other: str) -> Pairs:
    """Of two formats, at the block sizes that `form` was measured at."""
    others = models_of(study, other)
    return {size: (model, others[size]) for size, model in models_of(study, form).items()}


def _signs(pairs: Pairs) -> dict[int, int]:
    """-1 where the first of a pair has the lower KL divergence, +1 the higher, 0 where the intervals leave it open."""
    return {size: kl_apart(first, second) for size, (first, second) in pairs.items()}


def _ratios(pairs: Pairs) -> str:
    """The least and the largest KL divergence of the first over that of the second; one where they read the same."""
    ratios = [first.kl / second.kl for first, second in pairs.values()]
    return " to ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))))


def _where(signs: Mapping[int, int], words: Mapping[int, str]) -> str:
    """Signs by block size as "lower in blocks of 32 and higher in blocks of 64", for those signs that have a word."""
    chosen = {word: [size for size, sign in signs.items() if sign == of] for of, word in words.items()}
    return listed([f"{word} {_places(found, list(signs))}" for word, found in chosen.items() if found])


def _places(chosen: Sequence[int], measured: Sequence[int]) -> str:
    if len(chosen) == len(measured) > 1:
        return "at every block size"
    return f"in blocks of {sizes(chosen, measured)}"
