"""The block bootstrap: known intervals, repeatability, and how often its interval covers the truth."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate import statistics
from quant.evaluate.statistics import MIN_WINDOWS, bootstrap_mean, perplexity_ratio
from tests.unit.evaluate.series import autoregressive, white_noise

COVERAGE = (0.878, 0.903)
"""Measured: 8904 of 10000 simulations as in `covered`, with other seeds (arch 8.0.0, numpy 2): 0.8904 with a standard
error of 0.0031, so four of them either way. It is below the nominal 0.95 because 200 windows of an autocorrelated
series are few for a percentile interval.
"""


def tokens(windows: int, per_window: int = 4) -> Tensor:
    """Window of each token."""
    return torch.arange(windows).repeat_interleave(per_window)


@pytest.mark.parametrize("difference", [0.0, 0.5, -0.125, 3.0])
def test_a_constant_difference_has_an_interval_of_no_width(difference: float) -> None:
    """The constants are exact in binary, and so are the differences to baseline losses that are multiples of 2^-20."""
    baseline = torch.round(white_noise(30 * 4, 1).abs() * 2**20) / 2**20
    estimate = perplexity_ratio(baseline, baseline + difference, tokens(30))
    assert estimate.value == math.exp(difference)
    assert estimate.interval == (math.exp(difference), math.exp(difference))


def test_the_ratio_is_that_of_the_perplexities() -> None:
    baseline, losses = white_noise(90, 1).abs(), white_noise(90, 2).abs()
    expected = math.exp(math.fsum(losses.tolist()) / 90) / math.exp(math.fsum(baseline.tolist()) / 90)
    estimate = perplexity_ratio(baseline, losses, tokens(30, 3))
    assert estimate.value == pytest.approx(expected, rel=1e-13)
    assert estimate.interval is not None
    assert estimate.interval[0] < estimate.value < estimate.interval[1]


def test_a_short_last_window_weighs_its_tokens() -> None:
    """29 windows of ten zeros and one of a single 29.1: the mean is 0.1 over tokens, and would be 0.97 over windows."""
    values = torch.zeros(291, dtype=torch.float64)
    values[-1] = 29.1
    window_of_token = torch.cat([tokens(29, 10), torch.tensor([29])])
    estimate = bootstrap_mean(values, window_of_token)
    assert estimate.value == pytest.approx(0.1, rel=1e-13)
    assert estimate.interval is not None
    # The last window is drawn 30 times in 30 on average and hardly ever more than 7 times: 7 x 29.1 / 270 < 0.8.
    assert estimate.interval[1] < 0.8


def test_the_same_values_give_the_same_interval_whatever_the_random_state() -> None:
    values, window_of_token = white_noise(200, 3), tokens(50)
    first = bootstrap_mean(values, window_of_token)
    np.random.seed(99)
    torch.manual_seed(99)
    numpy_state, torch_state = np.random.get_state(legacy=False), torch.get_rng_state()
    second = bootstrap_mean(values, window_of_token)
    assert first == second
    assert first.interval is not None
    assert first.interval[0] < first.interval[1]
    assert str(numpy_state) == str(np.random.get_state(legacy=False))
    assert torch.equal(torch_state, torch.get_rng_state())


def test_the_interval_follows_the_values() -> None:
    values, window_of_token = white_noise(200, 3), tokens(50)
    once, shifted = bootstrap_mean(values, window_of_token), bootstrap_mean(4 * values + 8, window_of_token)
    assert once.interval is not None
    assert shifted.interval is not None
    assert shifted.interval == pytest.approx([4 * bound + 8 for bound in once.interval], rel=1e-9)


def test_tokens_of_a_window_do_not_count_as_independent() -> None:
    """40 windows whose 100 tokens are all equal: as many tokens as one likes add nothing to what 40 windows know.

    The interval's half-width is about 1.96 / sqrt(40) = 0.31; with tokens as the unit it would be a tenth of that.
    """
    values = white_noise(40, 5)
    one, hundred = bootstrap_mean(values, tokens(40, 1)), bootstrap_mean(values.repeat_interleave(100), tokens(40, 100))
    assert one.interval is not None
    assert hundred.interval == pytest.approx(one.interval, rel=1e-9)
    assert 0.15 < (one.interval[1] - one.interval[0]) / 2 < 0.6


def test_independent_windows_get_the_normal_interval_of_95_percent() -> None:
    """Half-widths over 1.96 standard errors, averaged over 20 series of 400 windows. Measured with 80 other series:
    0.993, 0.996, 0.994 and 0.992, each a mean of 20 with a standard error of 0.01. An interval of 90 % would give 0.84,
    of 99 % 1.31.
    """
    ratios = []
    for seed in range(20):
        values = white_noise(400, 1000 + seed)
        interval = bootstrap_mean(values, tokens(400, 1)).interval
        assert interval is not None
        ratios.append((interval[1] - interval[0]) / 2 / (1.96 * float(values.std()) / 20))
    assert sum(ratios) / 20 == pytest.approx(0.994, abs=0.05)


def test_autocorrelated_windows_get_a_wider_interval_than_the_same_ones_shuffled() -> None:
    series = autoregressive(400, 0.8, seed=6)
    shuffled = series[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    ordered, mixed = (bootstrap_mean(values, tokens(400, 1)).interval for values in (series, shuffled))
    assert ordered is not None
    assert mixed is not None
    # The standard error grows by sqrt((1 + 0.8) / (1 - 0.8)) = 3; block bootstraps reach some of that.
    assert ordered[1] - ordered[0] > 1.5 * (mixed[1] - mixed[0])


def covered(simulations: int) -> int:
    """How many intervals contain the true mean 0, for 200 windows with an autocorrelation of 0.6."""
    window_of_token = tokens(200)
    hits = 0
    for seed in range(simulations):
        interval = bootstrap_mean(autoregressive(200, 0.6, seed).repeat_interleave(4), window_of_token).interval
        assert interval is not None
        hits += interval[0] <= 0.0 <= interval[1]
    return hits


def binomial_range(trials: int, probabilities: tuple[float, float], tail: float) -> tuple[int, int]:
    """Counts outside of this range have a probability below `tail` on each side, for any probability in between."""

    def mass(count: int, p: float) -> float:
        return math.comb(trials, count) * p**count * (1 - p) ** (trials - count)

    low, high = 0, trials
    while math.fsum(mass(count, probabilities[0]) for count in range(low + 1)) < tail:
        low += 1
    while math.fsum(mass(count, probabilities[1]) for count in range(high, trials + 1)) < tail:
        high -= 1
    return low, high


def test_the_interval_covers_the_truth_as_often_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two-sided, at one false alarm in a million. Resampling single windows would cover 0.67 (268 of 400, the range
    begins at 318), an interval of twice the width 0.998.
    """
    monkeypatch.setattr(statistics, "RESAMPLES", 200)
    low, high = binomial_range(400, COVERAGE, 1e-6)
    assert low > 268 + 4 * math.sqrt(400 * 0.67 * 0.33)
    assert high < 400
    assert low <= covered(400) <= high


@pytest.mark.parametrize("windows", [1, 2, MIN_WINDOWS - 1])
def test_too_few_windows_give_a_value_without_an_interval(windows: int) -> None:
    values = white_noise(windows * 4, 1)
    estimate = bootstrap_mean(values, tokens(windows))
    assert estimate.value == pytest.approx(math.fsum(values.tolist()) / len(values), abs=1e-14)
    assert estimate.interval is None
    assert (
        estimate.reason
        == f"{windows} windows are too few to resample, it takes 20: pass a longer text or a smaller window"
    )
    ratio = perplexity_ratio(values, values, tokens(windows))
    assert (ratio.interval, ratio.reason) == (None, estimate.reason)


def test_twenty_windows_are_enough() -> None:
    assert MIN_WINDOWS == 20
    estimate = bootstrap_mean(white_noise(80, 1), tokens(20))
    assert estimate.interval is not None
    assert estimate.reason is None


def test_measurements_of_different_tokens_are_refused() -> None:
    with pytest.raises(QuantError, match=r"same tokens, got \[4\] and \[5\]"):
        perplexity_ratio(white_noise(4, 1), white_noise(5, 1), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(QuantError, match=r"same tokens, got \[4\] and \[5\]"):
        bootstrap_mean(white_noise(4, 1), torch.zeros(5, dtype=torch.int64))


def test_a_ratio_that_overflows_is_infinite() -> None:
    baseline = torch.zeros(100, dtype=torch.float64)
    estimate = perplexity_ratio(baseline, baseline + 1000, tokens(25))
    assert estimate.value == math.inf
    assert estimate.interval == (math.inf, math.inf)


def test_one_infinite_loss_gives_an_infinite_ratio_without_an_interval() -> None:
    """Drawn or not, it makes some resamples infinite: an interval between finite bounds would be a lie."""
    baseline = torch.zeros(100, dtype=torch.float64)
    losses = baseline + 0.5
    losses[7] = math.inf
    estimate = perplexity_ratio(baseline, losses, tokens(25))
    assert estimate.value == math.inf
    assert (estimate.interval, estimate.reason) == (None, "a token had probability 0")
