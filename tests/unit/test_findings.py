"""The results that a reader looks for first, and the words for them."""

from dataclasses import replace

import pytest

from quant.findings import findings
from quant.records import Comparison, Result
from quant.report.descriptions import summary
from tests.unit.report.samples import BASELINE, COMPARISON, INT8

WORSE = replace(
    INT8,
    scheme="nf4",
    perplexity_ratio=1.01,
    perplexity_relative_change=0.01,
    perplexity_ratio_ci=(1.005, 1.015),
    footprint_bytes=10_000_000,
    times_smaller=3.0,
    tokens_per_second=50.0,
    times_faster=1.25,
)
UNKNOWN = replace(INT8, scheme="int4", perplexity_ratio=1.5, perplexity_relative_change=0.5, perplexity_ratio_ci=None)


def of(*results: Result) -> Comparison:
    return replace(COMPARISON, results=(BASELINE, *results))


def test_each_is_the_extreme_of_its_figure() -> None:
    found = findings(of(WORSE, INT8, UNKNOWN))
    assert (found.best, found.worst, found.smallest, found.fastest) == (INT8, UNKNOWN, WORSE, INT8)
    assert (found.no_difference, found.unknown) == ((INT8,), (UNKNOWN,))


@pytest.mark.parametrize(
    ("interval", "found"), [((0.9, 1.0), 1), ((1.0, 1.1), 1), ((0.9, 0.999), 0), ((1.001, 1.1), 0)]
)
def test_no_difference_is_an_interval_that_contains_1(interval: tuple[float, float], found: int) -> None:
    assert len(findings(of(replace(INT8, perplexity_ratio_ci=interval))).no_difference) == found


@pytest.mark.parametrize("ratio", [None, float("nan"), float("inf")])
def test_a_broken_model_is_the_worst(ratio: float | None) -> None:
    broken = replace(INT8, scheme="nf4", perplexity_ratio=ratio)
    found = findings(of(broken, INT8))
    assert (found.best, found.worst) == (INT8, broken)


def test_what_was_not_measured_counts_for_nothing() -> None:
    found = findings(of(Result("nf4", error="cannot be made")))
    assert (found.best, found.worst, found.smallest, found.fastest, found.unknown) == (None, None, None, None, ())
    assert summary(of()) == (
        "my-model was measured alone: no quantization scheme was, so there is nothing to compare.",
    )


def test_the_summary_in_words() -> None:
    assert summary(of(WORSE, INT8, UNKNOWN)) == [
        "Quantizing changes the perplexity by +0.00284 % (w8a16) to +50 % (int4).",
        "No difference to the baseline was found for w8a16: the 95 % interval contains 1.",
        "Whether that is more than chance is not known for int4: there is no interval.",
        "The smallest is nf4, 3.00 times smaller than the baseline, at a perplexity change of +1 %.",
        "The fastest here is w8a16, decoding at 1.50 times the baseline's speed.",
    ]
    slower = replace(INT8, times_faster=0.75)
    assert summary(of(slower))[-1] == (
        "None is faster than the baseline here, the next is w8a16, decoding at 0.75 times the baseline's speed."
    )
    assert summary(of(WORSE))[:2] == [
        "nf4 changes the perplexity by +1 %.",
        "For every scheme the 95 % interval of the perplexity ratio excludes 1.",
    ]
