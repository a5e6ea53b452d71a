"""A threshold's figures and margins, from windows made by hand; what is not recorded, and what is not believed."""

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from scipy import stats

from quant.errors import QuantError
from quant.evaluate import recording
from quant.evaluate.gates import Verdict, judge
from quant.evaluate.recording import FALSE_ALARM, derive_threshold, margin, moved, per_window, quantile
from quant.evaluate.statistics import windowed_mean
from tests.unit.evaluate.made import (
    BASELINE,
    FLOATS,
    LAYERS,
    NOISE,
    PROVENANCE,
    TOKENS,
    WINDOWS,
    mean,
    quantized,
    recorded,
)


def test_the_quantile_is_two_sided_and_the_margin_as_documented() -> None:
    q = quantile(30)
    assert 2 * stats.t.sf(q, 30) == pytest.approx(FALSE_ALARM, rel=1e-6)
    ratio = margin(mean(5.0, 0.2, 30)) / (q * math.sqrt(2) * 0.2) - 1
    assert stats.f.sf(ratio**2, 30, 30) == pytest.approx(FALSE_ALARM / 2, rel=1e-6)


def test_a_threshold_holds_what_was_measured() -> None:
    threshold, measured = recorded(), quantized()
    assert measured.kl is not None
    baseline, losses, kl = (
        torch.tensor([float(f"{value:.9g}") for value in values[::TOKENS].tolist()], dtype=torch.float64)
        for values in (BASELINE.losses, measured.losses, measured.kl)
    )
    assert threshold.perplexity_ratio == pytest.approx(math.exp(float((losses - baseline).mean())), rel=1e-12)
    assert threshold.kl == pytest.approx(float(kl.mean()), rel=1e-12)
    assert (threshold.layers, threshold.floats) == (LAYERS, FLOATS)
    # The noise is 1e-6, of losses that are stored to within 5e-9.
    assert [threshold.noise, threshold.baseline_noise] == pytest.approx([NOISE, NOISE], abs=5e-9)
    counts = torch.full((WINDOWS,), float(TOKENS), dtype=torch.float64)
    margins = [margin(windowed_mean(values * TOKENS, counts, 1)) for values in (losses - baseline, kl)]
    assert [threshold.perplexity_margin, threshold.kl_margin] == pytest.approx(margins, rel=1e-9)
    assert threshold.top1_agreement == 1.0
    assert threshold.provenance == {**PROVENANCE, "false_alarm_rate": FALSE_ALARM}


def test_a_measurement_without_divergence_is_refused() -> None:
    with pytest.raises(QuantError, match=re.escape("make it with Baseline.compare")):
        judge("nf4", recorded(), BASELINE, BASELINE)


@pytest.mark.parametrize("missing", ["kl", "top1"])
def test_a_measurement_with_half_of_its_divergence_is_refused(missing: str) -> None:
    half: dict[str, Any] = {missing: None}
    with pytest.raises(QuantError, match=re.escape("make it with Baseline.compare")):
        per_window(BASELINE, dataclasses.replace(quantized(), **half))


def test_a_short_window_weighs_what_it_holds() -> None:
    """Rounding moves the mean of n tokens by 1 / sqrt(n): as a mean over windows alike, one token would speak for 100.

    By hand: sqrt((0.1^2 * 100 + 1^2 * 1) / 101).
    """
    tokens = torch.tensor([100.0, 1.0], dtype=torch.float64)
    then = torch.tensor([2.0, 2.0], dtype=torch.float64)
    now = torch.tensor([2.1, 1.0], dtype=torch.float64)
    assert moved(now, then, tokens) == pytest.approx(math.sqrt(2 / 101), rel=1e-12)


@pytest.mark.parametrize("name", ["perplexity_ratio", "perplexity_margin", "kl", "kl_margin"])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_threshold_that_was_edited_is_refused(name: str, factor: float) -> None:
    threshold = recorded()
    edited = dataclasses.replace(threshold, **{name: factor * getattr(threshold, name)})
    message = (
        rf"does not follow from its own windows \({name} [^;]* instead of [^;]*\): it was edited.*--update-thresholds"
    )
    with pytest.raises(QuantError, match=message):
        judge("nf4", edited, BASELINE, quantized())


def test_a_threshold_of_another_rate_is_refused() -> None:
    provenance = {**recorded().provenance, "false_alarm_rate": 0.001}
    with pytest.raises(QuantError, match=r"\(false alarms at a rate of 0\.001 instead of 0\.0001\)"):
        judge("nf4", recorded(provenance=provenance), BASELINE, quantized())


def test_a_change_of_the_promised_rate_makes_the_recorded_margins_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    threshold = recorded()
    monkeypatch.setattr(recording, "FALSE_ALARM", 0.001)
    with pytest.raises(QuantError, match=r"perplexity_margin .* instead of .*kl_margin .* instead of"):
        judge("nf4", threshold, BASELINE, quantized())
    assert judge("nf4", recorded(), BASELINE, quantized()).verdict is Verdict.PASS


@pytest.mark.parametrize("where", ["measured", "noisy"])
def test_a_model_that_gives_a_token_probability_0_is_not_recorded(where: str) -> None:
    measured = quantized()
    noisy = measured.losses + NOISE
    (measured.losses if where == "measured" else noisy)[5] = math.inf
    infinite = "perplexity_ratio, perplexity_margin, noise" if where == "measured" else "noise"
    with pytest.raises(QuantError, match=re.escape(f"({infinite}): the model gives a token")):
        derive_threshold(BASELINE, measured, BASELINE.losses, noisy, LAYERS, FLOATS, PROVENANCE)
