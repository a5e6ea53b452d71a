"""The verdicts of a gate, its margins, what each check sees and what is refused, on windows made by hand."""

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.budgets import judge_budget
from quant.evaluate.divergence import Measurement
from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.gates import (
    FALSE_ALARM,
    NOISE_FACTOR,
    Check,
    GateResult,
    Verdict,
    decide,
    derive_threshold,
    judge,
    margin,
    quantile,
)
from quant.evaluate.statistics import WindowedMean, windowed_mean
from quant.evaluate.thresholds import Threshold

WINDOWS, TOKENS = 40, 8
FINGERPRINT = Fingerprint("0" * 64, WINDOWS * TOKENS, TOKENS, TOKENS, None, "float32", 1, "cpu", "any", 1, {})
PROVENANCE: dict[str, object] = dataclasses.asdict(FINGERPRINT)
NOISE = 1e-6


def noise(seed: int) -> Tensor:
    """float64 [tokens]: normal, one value a window, so that the standard error over windows is the sample's."""
    values = torch.randn(WINDOWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.repeat_interleave(TOKENS)


def measurement(losses: Tensor, kl: Tensor | None = None, **changes: Any) -> Measurement:
    window = torch.arange(WINDOWS).repeat_interleave(TOKENS)
    top1 = None if kl is None else torch.ones(len(losses), dtype=torch.bool)
    return Measurement(losses, window, dataclasses.replace(FINGERPRINT, **changes), kl, top1)


BASELINE = measurement(3 + 0.1 * noise(0))


def quantized(loss: float = 0.01, kl: float = 0.02, spread: Tensor | float = 0.0) -> Measurement:
    """Excess loss and KL of so much on average, each with noise of a tenth, and `spread` added to the losses."""
    excess = loss * (1 + 0.1 * noise(1)) + spread
    return measurement(BASELINE.losses + excess, kl * (1 + 0.1 * noise(2)))


def recorded(**changes: Any) -> Threshold:
    measured = quantized()
    shaken = torch.full_like(BASELINE.losses, NOISE)
    threshold = derive_threshold(BASELINE, measured, BASELINE.losses + shaken, measured.losses - shaken, PROVENANCE)
    return dataclasses.replace(threshold, **changes)


def by_name(result: GateResult) -> dict[str, Check]:
    return {check.name: check for check in result.checks}


def mean(value: float, error: float, degrees: float = 63) -> WindowedMean:
    return WindowedMean(value, error, degrees)


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.0, 0.0, Verdict.PASS),
        (0.5, 0.49, Verdict.PASS),
        (-0.5, 0.49, Verdict.PASS),
        (0.5, 0.51, Verdict.INCONCLUSIVE),
        (-0.5, 0.51, Verdict.INCONCLUSIVE),
        (1.5, 0.51, Verdict.INCONCLUSIVE),
        (1.5, 0.49, Verdict.REGRESSION),
        (-1.5, 0.49, Verdict.REGRESSION),
        (1.0, 0.0, Verdict.PASS),
        (0.0, 1.01, Verdict.INCONCLUSIVE),
        (math.inf, math.inf, Verdict.REGRESSION),
        (math.nan, math.nan, Verdict.REGRESSION),
    ],
)
def test_a_verdict_is_where_value_and_reach_lie(value: float, error: float, expected: Verdict) -> None:
    """`error` in units of the reach, limits -1 and 1."""
    assert decide(mean(value, error / quantile(63)), -1.0, 1.0)[0] is expected


def test_an_inconclusive_verdict_says_how_many_times_the_tokens_would_tell() -> None:
    """A reach of 0.4, a distance of 0.1 to the nearer limit: 16 times, since the reach falls with the root."""
    verdict, reach, factor = decide(mean(0.9, 0.4 / quantile(63)), -1.0, 1.0)
    assert verdict is Verdict.INCONCLUSIVE
    assert [reach, factor] == pytest.approx([0.4, 16])
    assert decide(mean(0.9, 0.4 / quantile(63) / 4.001), -1.0, 1.0)[0] is Verdict.PASS
    assert decide(mean(1.0, 0.1), -1.0, 1.0)[2] == math.inf


def test_the_quantile_is_two_sided_and_the_margin_as_documented() -> None:
    q = quantile(30)
    assert 2 * stats.t.sf(q, 30) == pytest.approx(FALSE_ALARM, rel=1e-6)
    ratio = margin(mean(5.0, 0.2, 30)) / (q * math.sqrt(2) * 0.2) - 1
    assert stats.f.sf(ratio**2, 30, 30) == pytest.approx(FALSE_ALARM / 2, rel=1e-6)


def test_the_recorded_model_passes_with_nothing_moved() -> None:
    result = judge("nf4", recorded(), BASELINE, quantized())
    assert result.verdict is Verdict.PASS
    assert [check.verdict for check in result.checks] == [Verdict.PASS] * 3
    assert "may move by" in str(result)
    assert str(result).startswith("nf4: pass\n")


def test_a_threshold_holds_what_was_measured() -> None:
    threshold, measured = recorded(), quantized()
    assert measured.kl is not None
    excess = measured.losses - BASELINE.losses
    assert threshold.perplexity_ratio == pytest.approx(math.exp(float(excess.mean())), rel=1e-12)
    assert threshold.kl == pytest.approx(float(measured.kl.mean()), rel=1e-12)
    assert [threshold.noise, threshold.baseline_noise] == pytest.approx([NOISE, NOISE])
    counts = torch.full((WINDOWS,), float(TOKENS), dtype=torch.float64)
    margins = [margin(windowed_mean(values[::TOKENS] * TOKENS, counts, 1)) for values in (excess, measured.kl)]
    assert [threshold.perplexity_margin, threshold.kl_margin] == pytest.approx(margins, rel=1e-9)
    assert threshold.top1_agreement == 1.0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [0.9, 1.1])
def test_the_perplexity_check_sees_its_margin_on_both_sides(sign: int, size: float) -> None:
    """Moved by the same for every token, so that the difference has no standard error."""
    threshold = recorded()
    shift = sign * size * threshold.perplexity_margin
    found = by_name(judge("nf4", threshold, BASELINE, quantized(spread=shift)))
    expected = Verdict.PASS if size < 1 else Verdict.REGRESSION
    assert found["perplexity ratio"].verdict is expected
    assert found["KL divergence"].verdict is Verdict.PASS


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [0.9, 1.1])
def test_the_kl_check_sees_its_margin_on_both_sides(sign: int, size: float) -> None:
    threshold, measured = recorded(), quantized()
    assert measured.kl is not None
    moved = dataclasses.replace(measured, kl=measured.kl + sign * size * threshold.kl_margin)
    found = by_name(judge("nf4", threshold, BASELINE, moved))
    expected = Verdict.PASS if size < 1 else Verdict.REGRESSION
    assert found["KL divergence"].verdict is expected
    assert found["perplexity ratio"].verdict is found["change"].verdict is Verdict.PASS


@pytest.mark.parametrize("size", [0.9, 1.1])
def test_the_change_check_sees_what_cancels_in_the_mean(size: float) -> None:
    """Half the windows up, half down: neither mean moves."""
    alternating = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(WINDOWS // 2).repeat_interleave(TOKENS)
    result = judge("nf4", recorded(), BASELINE, quantized(spread=size * NOISE_FACTOR * NOISE * alternating))
    found = by_name(result)
    assert found["perplexity ratio"].verdict is found["KL divergence"].verdict is Verdict.PASS
    assert found["change"].verdict is (Verdict.PASS if size < 1 else Verdict.REGRESSION)
    assert result.verdict is found["change"].verdict
    assert ("record it with pytest --update-thresholds" in str(result)) == (size > 1)


def test_a_model_that_scatters_does_not_pass_for_its_large_error() -> None:
    """Garbage has a wide interval: its mean may be anything, and is not taken for that of the recorded model."""
    found = by_name(judge("nf4", recorded(), BASELINE, quantized(spread=noise(7))))
    assert found["perplexity ratio"].verdict is not Verdict.PASS


def test_an_inconclusive_check_names_the_tokens_it_takes() -> None:
    threshold = recorded()
    spread = 0.9 * threshold.perplexity_margin + 0.02 * noise(3)
    check = by_name(judge("nf4", threshold, BASELINE, quantized(spread=spread)))["perplexity ratio"]
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.more_tokens is not None
    assert check.text.endswith(f"inconclusive, it takes about {check.more_tokens:,} more tokens to tell")


def test_the_verdict_of_all_is_the_worst() -> None:
    def result(*verdicts: Verdict) -> Verdict:
        return GateResult("nf4", tuple(Check("", verdict, "") for verdict in verdicts)).verdict

    assert result(Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.REGRESSION) is Verdict.REGRESSION
    assert result(Verdict.PASS, Verdict.INCONCLUSIVE) is Verdict.INCONCLUSIVE
    assert result(Verdict.PASS, Verdict.PASS) is Verdict.PASS


def test_an_infinite_loss_is_a_regression() -> None:
    measured = quantized()
    measured.losses[5] = math.inf
    assert judge("nf4", recorded(), BASELINE, measured).verdict is Verdict.REGRESSION


@pytest.mark.parametrize("field", ["tokens_sha256", "scored_tokens", "window", "stride", "bos_id", "dtype"])
def test_another_text_is_refused_by_field(field: str) -> None:
    changes: dict[str, Any] = {field: "other"}
    other = measurement(BASELINE.losses, **changes)
    was = re.escape(str(PROVENANCE[field]))
    message = rf"recorded on something else \({field} {was}, now other\).*--update-thresholds"
    with pytest.raises(QuantError, match=message):
        judge("nf4", recorded(), other, quantized())


def test_another_machine_is_not_refused() -> None:
    other = measurement(BASELINE.losses, cpu="other", threads=7, versions={"torch": "9"}, batch_size=3, device="cuda")
    assert judge("nf4", recorded(), other, quantized()).verdict is Verdict.PASS


@pytest.mark.parametrize("size", [0.9, 1.1])
def test_another_unquantized_model_is_refused(size: float) -> None:
    moved = size * NOISE_FACTOR * NOISE
    other, measured = measurement(BASELINE.losses + moved), quantized()
    if size < 1:
        assert judge("nf4", recorded(), other, measured).verdict is Verdict.PASS
    else:
        with pytest.raises(QuantError, match=r"unquantized model's own losses are not the recorded ones: perplexity 1"):
            judge("nf4", recorded(), other, measured)


def test_a_measurement_without_divergence_is_refused() -> None:
    with pytest.raises(QuantError, match=re.escape("make it with Baseline.compare")):
        judge("nf4", recorded(), BASELINE, BASELINE)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_perplexity_ratio": 1.02}, Verdict.PASS),
        ({"max_perplexity_ratio": 1.0101}, Verdict.INCONCLUSIVE),
        ({"max_perplexity_ratio": 1.005}, Verdict.REGRESSION),
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


def test_better_than_a_budget_passes() -> None:
    """A limit from one side: a model better than its baseline is within every budget."""
    assert judge_budget("nf4", BASELINE, quantized(loss=-0.5), max_perplexity_ratio=1.01).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "pass max_perplexity_ratio or max_kl"),
        ({"max_kl": 0.0}, "max_kl 0.0 is not a limit"),
        ({"max_perplexity_ratio": -1.0}, "max_perplexity_ratio -1.0 is not a limit"),
        ({"max_kl": math.nan}, "max_kl nan is not a limit"),
        ({"max_kl": math.inf}, "max_kl inf is not a limit"),
    ],
)
def test_a_budget_without_a_limit_is_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(QuantError, match=message):
        judge_budget("nf4", BASELINE, quantized(), **limits)
