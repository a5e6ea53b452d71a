"""The verdicts of a budget, on windows made by hand."""

import math
import re

import pytest

from quant.errors import QuantError
from quant.evaluate.budgets import judge_budget
from quant.evaluate.gates import Verdict
from tests.unit.evaluate.made import BASELINE, TOKENS, WINDOWS, by_name, quantized


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_perplexity_ratio": 1.02}, Verdict.PASS),
        ({"max_perplexity_ratio": 1.0101}, Verdict.INCONCLUSIVE),
        ({"max_perplexity_ratio": 1.005}, Verdict.REGRESSION),
        ({"max_perplexity_ratio": math.nextafter(2, 1)}, Verdict.PASS),
        ({"max_perplexity_ratio": math.nextafter(0.9, 1)}, Verdict.REGRESSION),
        ({"max_kl": 0.03}, Verdict.PASS),
        ({"max_kl": 0.0201}, Verdict.INCONCLUSIVE),
        ({"max_kl": 0.015}, Verdict.REGRESSION),
        ({"max_perplexity_ratio": 1.02, "max_kl": 0.015}, Verdict.REGRESSION),
    ],
)
def test_a_budget_is_held_to_its_limits(limits: dict[str, float], expected: Verdict) -> None:
    """Measured: a ratio of exp(0.01) and a KL of 0.02, each with a standard error of some 1/600 of itself."""
    result = judge_budget("nf4", BASELINE, quantized(), **limits)
    assert result.verdict is expected
    assert len(result.checks) == len(limits)


def test_an_inconclusive_budget_names_the_tokens_that_tell() -> None:
    """The limits stay where they are, and what is measured lies this far below them."""
    limits = {"max_perplexity_ratio": 1.0101, "max_kl": 0.0201}
    measured = quantized()
    assert measured.kl is not None
    means = {
        "perplexity ratio": (measured.losses - BASELINE.losses).mean() - math.log(1.0101),
        "KL divergence": measured.kl.mean() - 0.0201,
    }
    found = by_name(judge_budget("nf4", BASELINE, measured, **limits))
    for name, distance in means.items():
        reach = re.search(r"\+- ([\d.e-]+)( %)?", found[name].text)
        assert reach
        width = float(reach[1]) / (100 if reach[2] else 1)
        more = ((width / float(distance)) ** 2 - 1) * WINDOWS * TOKENS
        # The reach is printed with two or three digits.
        assert found[name].more_tokens == pytest.approx(more, rel=0.1)
        assert found[name].text.endswith(f"it takes about {found[name].more_tokens:,} more tokens to tell")


def test_better_than_a_budget_passes() -> None:
    """A limit from one side: a model better than its baseline is within every budget."""
    assert judge_budget("nf4", BASELINE, quantized(loss=-0.5), max_perplexity_ratio=1.01).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "pass max_perplexity_ratio or max_kl"),
        ({"max_kl": 0.0}, "max_kl 0.0 is not a limit"),
        ({"max_perplexity_ratio": -1.0}, "max_perplexity_ratio -1.0 is not a limit"),
        ({"max_perplexity_ratio": 0.9}, "max_perplexity_ratio 0.9 is not between .* 1.01 means 1 % worse"),
        ({"max_perplexity_ratio": 2}, "max_perplexity_ratio 2 is not between 0.9 and 2: it is the quantized model's"),
        ({"max_kl": math.nan}, "max_kl nan is not a limit"),
        ({"max_kl": math.inf}, "max_kl inf is not a limit"),
    ],
)
def test_a_budget_without_a_limit_is_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(QuantError, match=message):
        judge_budget("nf4", BASELINE, quantized(), **limits)


def test_a_ratio_beyond_the_floats_is_a_regression() -> None:
    result = judge_budget("nf4", BASELINE, quantized(loss=1000.0), max_perplexity_ratio=1.01)
    assert result.verdict is Verdict.REGRESSION
    assert by_name(result)["perplexity ratio"].text.startswith("perplexity ratio inf +- ")
