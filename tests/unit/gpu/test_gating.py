"""Limits from both sides, on made-up measurements of 40 windows."""

import dataclasses

import pytest
import torch

from quant.evaluate.divergence import Measurement
from quant.evaluate.gates import Verdict
from tests.gpu.gating import hold
from tests.gpu.references import Limits
from tests.unit.evaluate.made import BASELINE, by_name, quantized

LIMITS = Limits(log_ratio=(0.005, 0.02), kl=(0.01, 0.04), top1=(0.5, 1.0))


def with_top1(measured: Measurement, rate: int) -> Measurement:
    """One token of `rate` in each window is another one's best."""
    assert measured.top1 is not None
    return dataclasses.replace(measured, top1=torch.arange(len(measured.top1)) % rate > 0)


def test_what_lies_between_the_limits_passes() -> None:
    result = hold("nf4", LIMITS, BASELINE, with_top1(quantized(0.01, 0.02), 4))
    assert result.verdict is Verdict.PASS, result
    assert list(by_name(result)) == ["log perplexity ratio", "KL divergence, nats", "top-1 agreement"]


@pytest.mark.parametrize(
    ("measured", "red"),
    [
        (quantized(0.05, 0.02), "log perplexity ratio"),
        (quantized(0.001, 0.02), "log perplexity ratio"),
        (quantized(0.01, 0.1), "KL divergence, nats"),
        (quantized(0.01, 0.001), "KL divergence, nats"),
        (with_top1(quantized(0.01, 0.02), 1), "top-1 agreement"),
        (quantized(float("nan"), 0.02), "log perplexity ratio"),
    ],
    ids=["worse", "too good", "further", "too near", "disagrees", "nan"],
)
def test_what_lies_outside_on_either_side_is_a_regression(measured: Measurement, red: str) -> None:
    result = hold("nf4", LIMITS, BASELINE, measured)
    assert by_name(result)[red].verdict is Verdict.REGRESSION, result
    assert result.verdict is Verdict.REGRESSION


def test_nothing_quantized_is_a_regression() -> None:
    result = hold("w8a16", dataclasses.replace(LIMITS, log_ratio=(-0.02, 0.02)), BASELINE, quantized(0.0, 0.0))
    assert [check.verdict for check in result.checks] == [Verdict.PASS, Verdict.REGRESSION, Verdict.PASS]


def test_what_a_text_cannot_tell_is_inconclusive_and_says_how_many_tokens_would() -> None:
    near = hold("nf4", dataclasses.replace(LIMITS, log_ratio=(0.005, 0.0102)), BASELINE, quantized(0.01, 0.02))
    check = by_name(near)["log perplexity ratio"]
    assert check.verdict is Verdict.INCONCLUSIVE
    assert "more tokens to tell" in check.text
