"""The verdicts of a gate, what each check sees and what is refused, on windows made by hand."""

import dataclasses
import math
import re
from typing import Any

import pytest
import torch

from quant.errors import QuantError
from quant.evaluate.gates import NOISE_FACTOR, Check, GateResult, Verdict, decide, judge, too_few_by
from quant.evaluate.recording import quantile
from tests.unit.evaluate.made import (
    BASELINE,
    NOISE,
    PROVENANCE,
    TOKENS,
    WINDOWS,
    by_name,
    mean,
    measurement,
    noise,
    quantized,
    recorded,
)


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


def test_so_many_times_the_tokens_tell_what_stays_where_it_is() -> None:
    """A reach of 0.4 at a distance of 0.1 from a limit: it falls with the root, so that 16 times the tokens tell."""
    verdict, reach = decide(mean(0.9, 0.4 / quantile(63)), -math.inf, 1.0)
    assert verdict is Verdict.INCONCLUSIVE
    assert reach == pytest.approx(0.4)
    assert too_few_by(reach, 0.9 - 1.0) == pytest.approx(16)
    for times, expected in ((15.9, Verdict.INCONCLUSIVE), (16.1, Verdict.PASS)):
        assert decide(mean(0.9, 0.4 / quantile(63) / math.sqrt(times)), -math.inf, 1.0)[0] is expected
    assert too_few_by(0.4, 0.0) == math.inf


@pytest.mark.parametrize("value", [0.9, -0.9])
def test_a_margin_shrinks_with_the_reach_of_a_longer_text(value: float) -> None:
    """A margin of 1 and a reach of 0.4 are 1.4 together: (1.4 / 0.9)^2 times the tokens, or 2.42, tell."""
    factor = too_few_by(1.0 + 0.4, value)
    assert factor == pytest.approx(2.42, abs=0.001)
    for times, expected in ((0.99 * factor, Verdict.INCONCLUSIVE), (1.01 * factor, Verdict.REGRESSION)):
        margin = 1.0 / math.sqrt(times)
        assert decide(mean(value, 0.4 / quantile(63) / math.sqrt(times)), -margin, margin)[0] is expected


def test_what_touches_a_limit_from_outside_is_not_sure() -> None:
    """The limits are taken from the reach, so that nothing is rounded between the two."""
    around = mean(1.5, 0.1)
    reach = decide(around, -1.0, 1.0)[1]
    assert decide(around, -1.0, 1.5 - reach)[0] is Verdict.INCONCLUSIVE
    assert decide(around, 1.5 + reach, 9.0)[0] is Verdict.INCONCLUSIVE


def test_the_recorded_model_passes_with_nothing_moved() -> None:
    result = judge("nf4", recorded(), BASELINE, quantized())
    assert result.verdict is Verdict.PASS
    assert [check.verdict for check in result.checks] == [Verdict.PASS] * 3
    assert "may move by" in str(result)
    assert str(result).startswith("nf4: pass\n")


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
    spread = 0.9 * threshold.perplexity_margin + 0.005 * noise(3)
    check = by_name(judge("nf4", threshold, BASELINE, quantized(spread=spread)))["perplexity ratio"]
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.more_tokens is not None
    moved = spread[::TOKENS]
    reach = quantile(WINDOWS - 1) * float(moved.std()) / math.sqrt(WINDOWS)
    times = ((threshold.perplexity_margin + reach) / float(moved.mean())) ** 2
    assert check.more_tokens == pytest.approx((times - 1) * WINDOWS * TOKENS, abs=1.001)
    assert check.text.endswith(
        f"inconclusive, it takes about {check.more_tokens:,} more tokens to tell: record the last good model on so "
        "long a text, then hold this one to that"
    )


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


def test_all_fields_that_differ_are_told() -> None:
    other = measurement(BASELINE.losses, window=1, stride=2)
    with pytest.raises(QuantError, match=rf"\(window {TOKENS}, now 1; stride {TOKENS}, now 2\)"):
        judge("nf4", recorded(), other, quantized())


def test_another_machine_is_not_refused() -> None:
    other = measurement(BASELINE.losses, cpu="other", threads=7, versions={"torch": "9"}, batch_size=3)
    assert judge("nf4", recorded(), other, quantized()).verdict is Verdict.PASS


def test_a_gpu_is_not_held_to_a_cpu_nor_a_cpu_to_a_gpu() -> None:
    """Quantized layers have the same bits on CPUs only; that two GPUs are held to each other is the point again."""
    on_a_gpu = recorded(provenance={**recorded().provenance, "device": "NVIDIA H200"})
    with pytest.raises(QuantError, match=r"recorded on cpu, and this was measured on NVIDIA H100.*--update-thresholds"):
        judge("nf4", recorded(), measurement(BASELINE.losses, device="NVIDIA H100"), quantized())
    with pytest.raises(QuantError, match=r"recorded on NVIDIA H200, and this was measured on cpu"):
        judge("nf4", on_a_gpu, BASELINE, quantized())
    other = measurement(BASELINE.losses, device="NVIDIA H100")
    assert judge("nf4", on_a_gpu, other, quantized()).verdict is Verdict.PASS


@pytest.mark.parametrize("size", [0.9, 1.1])
def test_another_unquantized_model_is_refused(size: float) -> None:
    moved = size * NOISE_FACTOR * NOISE
    other, measured = measurement(BASELINE.losses + moved), quantized()
    if size < 1:
        assert judge("nf4", recorded(), other, measured).verdict is Verdict.PASS
    else:
        with pytest.raises(QuantError, match=r"unquantized model's own losses are not the recorded ones: perplexity 1"):
            judge("nf4", recorded(), other, measured)
