"""A model beside its baseline: every figure from the per-token results, refused where they are of different things."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from quant.errors import QuantError
from quant.evaluate.divergence import Baseline, Measurement
from quant.evaluate.paired import paired_accuracy
from quant.evaluate.statistics import bootstrap_mean, perplexity_ratio
from quant.evaluate.windows import TokenWindows
from tests.fakes import ROUNDING, Context, exp_tolerance, mean_tolerance, stream, table

VOCAB = 7


def windows(**changes: Any) -> TokenWindows:
    return TokenWindows(**{"ids": stream(121, VOCAB), "window": 5, **changes})


def other_model() -> Context:
    """Near enough to agree on some first tokens and not on others."""
    return Context(table(11, VOCAB, 1) + table(11, VOCAB, 2, spread=1.0))


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(Context(table(11, VOCAB, 1)), windows())


@pytest.fixture
def measured(baseline: Baseline) -> Measurement:
    return baseline.compare(other_model())


def test_figures_follow_from_the_tokens(baseline: Baseline, measured: Measurement) -> None:
    paired = paired_accuracy(baseline.measurement, measured)
    ours, theirs = baseline.losses.tolist(), measured.losses.tolist()
    before, after = (math.exp(math.fsum(losses) / 120) for losses in (ours, theirs))
    assert measured.kl is not None
    assert measured.top1 is not None
    off_before, off_after = (exp_tolerance(mean_tolerance(losses)) for losses in (ours, theirs))
    assert paired.perplexity == pytest.approx(after, rel=off_after)
    # After cancelling, what is left of both numbers' errors, and one rounding.
    off = before * off_before + after * off_after
    assert paired.difference == pytest.approx(after - before, abs=off + abs(after - before) * ROUNDING)
    assert paired.relative_change == pytest.approx(after / before - 1, abs=2 * (off / before + 2 * ROUNDING))
    assert paired.ratio.value == pytest.approx(after / before, rel=2 * (off_before + off_after))
    kl = measured.kl.tolist()
    assert paired.kl.value == pytest.approx(math.fsum(kl) / 120, abs=mean_tolerance(kl))
    assert paired.top1_agreement == sum(measured.top1.tolist()) / 120
    assert 0 < paired.top1_agreement < 1
    assert abs(paired.difference) > 0.1


def test_intervals_are_over_the_windows_of_the_baseline(baseline: Baseline, measured: Measurement) -> None:
    paired = paired_accuracy(baseline.measurement, measured)
    assert measured.kl is not None
    assert paired.ratio == perplexity_ratio(baseline.losses, measured.losses, windows().window_of_token)
    assert paired.kl == bootstrap_mean(measured.kl, windows().window_of_token)
    assert paired.ratio.interval is not None
    assert paired.kl.interval is not None


def test_a_model_beside_itself_differs_in_nothing(baseline: Baseline) -> None:
    paired = paired_accuracy(baseline.measurement, baseline.compare(Context(table(11, VOCAB, 1))))
    assert (paired.difference, paired.relative_change, paired.top1_agreement) == (0.0, 0.0, 1.0)
    assert (paired.ratio.value, paired.ratio.interval) == (1.0, (1.0, 1.0))
    assert (paired.kl.value, paired.kl.interval) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ids": stream(121, VOCAB, seed=2)}, "tokens_sha256"),
        ({"ids": stream(120, VOCAB)}, "scored_tokens"),
        ({"window": 6, "stride": 5}, "window: 6 and 5"),
        ({"stride": 4}, "stride: 4 and 5"),
        ({"bos_id": 0, "window": 6}, "bos_id: 0 and None"),
    ],
    ids=["other tokens", "fewer tokens", "window", "stride", "BOS"],
)
def test_measurements_of_different_things_are_refused(
    measured: Measurement, changes: dict[str, Any], field: str
) -> None:
    other = Baseline(Context(table(11, VOCAB, 1)), windows(**changes))
    with pytest.raises(QuantError, match=f"cannot be compared.*{field}"):
        paired_accuracy(other.measurement, measured)


def test_another_software_is_refused(baseline: Baseline, measured: Measurement) -> None:
    older = replace(measured.fingerprint, versions={**measured.fingerprint.versions, "torch": "1.0"})
    with pytest.raises(QuantError, match="versions: "):
        paired_accuracy(baseline.measurement, replace(measured, fingerprint=older))


def test_a_measurement_made_with_other_threads_is_refused(baseline: Baseline) -> None:
    """The fingerprint is of the moment of measuring, not of the moment when the baseline was made."""
    torch.set_num_threads(2)
    try:
        measured = baseline.compare(other_model())
    finally:
        torch.set_num_threads(1)
    assert measured.fingerprint.threads == 2
    with pytest.raises(QuantError, match="threads: 1 and 2"):
        paired_accuracy(baseline.measurement, measured)


def test_a_measurement_without_divergence_is_refused(baseline: Baseline) -> None:
    with pytest.raises(QuantError, match=r"make it with Baseline\.compare"):
        paired_accuracy(baseline.measurement, baseline.measurement)


def test_a_measurement_without_a_part_of_its_divergence_is_refused(baseline: Baseline, measured: Measurement) -> None:
    for part in ("kl", "top1"):
        with pytest.raises(QuantError, match="has no divergence"):
            paired_accuracy(baseline.measurement, replace(measured, **{part: None}))  # type: ignore[arg-type]


def test_a_measurement_carries_what_it_was_made_on(baseline: Baseline, measured: Measurement) -> None:
    """The dtype is the baseline's: a quantized model has several."""
    cut = windows()
    for made in (baseline.measurement, measured):
        assert torch.equal(made.window_of_token, cut.window_of_token)
        assert made.fingerprint.tokens_sha256 == cut.sha256
        assert (made.fingerprint.window, made.fingerprint.stride, made.fingerprint.dtype) == (5, 5, "float32")
    half = Baseline(Context(table(11, VOCAB, 1)).bfloat16(), cut)
    assert half.compare(other_model()).fingerprint.dtype == "bfloat16"
