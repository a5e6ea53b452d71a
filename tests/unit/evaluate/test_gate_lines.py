"""The lines of a gate and of a budget: each figure in them, computed here from the windows."""

import dataclasses
import math

import pytest
import torch
from scipy.stats import t
from torch import Tensor

from quant.evaluate.budgets import judge_budget
from quant.evaluate.gates import NOISE_FACTOR, Verdict, explained, judge
from quant.evaluate.recording import derive_threshold, per_window, quantile
from tests.unit.evaluate.made import (
    BASELINE,
    FLOATS,
    LAYERS,
    NOISE,
    PROVENANCE,
    TOKENS,
    WINDOWS,
    by_name,
    measurement,
    noise,
    quantized,
    recorded,
)


def trend(seed: int) -> Tensor:
    """Noise sorted by size: single windows understate its error over a text, and a gate is to take single ones."""
    return noise(seed)[::TOKENS].sort().values.repeat_interleave(TOKENS)


def mean_and_reach(differences: Tensor) -> tuple[float, float]:
    """Of one value a window: its mean, and the half width of its interval from the sample's standard error."""
    sample = differences[::TOKENS]
    return float(sample.mean()), quantile(WINDOWS - 1) * float(sample.std()) / math.sqrt(WINDOWS)


def test_a_ratio_that_moved() -> None:
    threshold, moved = recorded(), 0.01 + 0.001 * trend(3)
    check = by_name(judge("nf4", threshold, BASELINE, quantized(spread=moved)))["perplexity ratio"]
    (value, reach), then = mean_and_reach(moved), threshold.perplexity_ratio
    assert check.text == (
        f"perplexity ratio {then:.6f} recorded, {then * math.exp(value):.6f} now: {100 * value:+.4f} % "
        f"+- {100 * reach:.4f} %, may move by {100 * threshold.perplexity_margin:.4f} %: regression"
    )
    assert check.more_tokens is None


def test_a_ratio_beyond_the_floats() -> None:
    check = by_name(judge("nf4", recorded(), BASELINE, quantized(spread=1000.0)))["perplexity ratio"]
    assert " recorded, inf now: +100000.0000 % " in check.text


def test_a_divergence_that_may_have_moved() -> None:
    threshold, measured = recorded(), quantized()
    assert measured.kl is not None
    moved = 0.8 * threshold.kl_margin * (1 + trend(4))
    found = by_name(judge("nf4", threshold, BASELINE, dataclasses.replace(measured, kl=measured.kl + moved)))
    (value, reach), check = mean_and_reach(moved), found["KL divergence"]
    more = (((threshold.kl_margin + reach) / value) ** 2 - 1) * WINDOWS * TOKENS
    assert check.more_tokens is not None
    assert check.more_tokens == pytest.approx(more, abs=1 + 1e-6 * more)
    percent = 100 / threshold.kl
    assert check.text == (
        f"KL divergence {threshold.kl:.4e} nats recorded, {threshold.kl + value:.4e} now: {percent * value:+.2f} % "
        f"+- {percent * reach:.2f} %, may move by {percent * threshold.kl_margin:.2f} %: inconclusive, "
        f"it takes about {check.more_tokens:,} more tokens to tell: record the last good model on so long a text, then "
        "hold this one to that"
    )


def test_a_divergence_of_nothing_is_told_in_nats() -> None:
    """A model that is its baseline has no divergence to take a percentage of."""
    same = quantized(loss=0.0, kl=0.0)
    threshold = derive_threshold(BASELINE, same, BASELINE.losses, BASELINE.losses, LAYERS, FLOATS, PROVENANCE)
    check = by_name(judge("nf4", threshold, BASELINE, same))["KL divergence"]
    assert "+0.00 nats +- 0.00 nats, may move by 0.00 nats: pass" in check.text


def test_a_divergence_where_there_was_none_is_told_in_nats() -> None:
    same = quantized(loss=0.0, kl=0.0)
    threshold = derive_threshold(BASELINE, same, BASELINE.losses, BASELINE.losses, LAYERS, FLOATS, PROVENANCE)
    measured = dataclasses.replace(same, kl=torch.full_like(BASELINE.losses, 0.25))
    check = by_name(judge("nf4", threshold, BASELINE, measured))["KL divergence"]
    assert ": +0.25 nats +- 0.00 nats, may move by 0.00 nats: regression" in check.text


@pytest.mark.parametrize(
    ("factor", "more", "needed"),
    [
        (999.0, 319_360, "about 319,360 more tokens"),
        (1000.0, None, "more than 320,000 tokens"),
        (math.inf, None, "more than 320,000 tokens"),
    ],
)
def test_an_estimate_on_its_limit_names_no_number_of_tokens(factor: float, more: int | None, needed: str) -> None:
    """Of 320 tokens: 999 times as many would be an answer, from 1000 on the number is none."""
    windows = per_window(BASELINE, quantized())
    check = explained("x", "figures", Verdict.INCONCLUSIVE, factor, windows)
    assert (check.text, check.more_tokens) == (f"figures: inconclusive, it takes {needed} to tell", more)


def test_results_that_are_not_the_recorded_ones() -> None:
    moved = 0.001 * noise(5)
    check = by_name(judge("nf4", recorded(), BASELINE, quantized(spread=moved)))["change"]
    assert check.text == (
        f"losses of the windows moved by {float(moved.square().mean().sqrt()):.2e} nats (root mean square), rounding "
        f"may move them by {NOISE_FACTOR * NOISE:.2e}, these are not the recorded results: if the change is meant, "
        "record it with pytest --update-thresholds: regression"
    )


def test_where_nothing_may_move_what_did_not_passes() -> None:
    assert judge("nf4", recorded(noise=0.0, baseline_noise=0.0), BASELINE, quantized()).verdict is Verdict.PASS


def mean_and_reach_in_blocks(values: Tensor, length: int) -> tuple[float, float]:
    """As `mean_and_reach`, where `length` neighbours go together: the circular bootstrap's formula, in plain loops."""
    sample = values[::TOKENS].tolist()
    count, blocks = len(sample), len(sample) / length
    mean = math.fsum(sample) / count
    sums = [math.fsum(sample[(first + k) % count] - mean for k in range(length)) for first in range(count)]
    variance = blocks * math.fsum(total**2 for total in sums) / count * blocks / (blocks - 1)
    return mean, float(t.ppf(1 - 1e-4 / 2, blocks - 1)) * math.sqrt(variance) / count


def test_a_budget() -> None:
    """Neighbouring windows are as alike as can be, so that they go together by the most that 40 may: the cube root."""
    excess, kl = 0.01 * (1 + 0.1 * trend(1)), 0.02 * (1 + 0.1 * trend(2))
    (ratio, ratio_reach), (divergence, reach) = (mean_and_reach_in_blocks(values, length=3) for values in (excess, kl))
    measured = measurement(BASELINE.losses + excess, kl)
    result = judge_budget("nf4", BASELINE, measured, max_perplexity_ratio=1.02, max_kl=0.015)
    assert result.scheme == "nf4"
    assert {check.name: check.text for check in result.checks} == {
        "perplexity ratio": f"perplexity ratio {math.exp(ratio):.5f} +- {100 * ratio_reach:.3f} %, at most 1.02: pass",
        "KL divergence": f"KL divergence {divergence:.3e} +- {reach:.1e} nats, at most 0.015: regression",
    }
