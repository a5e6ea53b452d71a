"""The mean over windows and its standard error: against a loop, against arch's resampling, and in its simple cases."""

import math

import numpy as np
import pytest
import torch
from arch.bootstrap import CircularBlockBootstrap
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.statistics import MIN_WINDOWS, WindowedMean, _block_length, windowed_mean
from tests.unit.evaluate.series import autoregressive, white_noise


def counts(windows: int) -> Tensor:
    """Unequal: 3, 4, 5, 3, 4, 5, ..."""
    return 3.0 + torch.arange(windows, dtype=torch.float64) % 3


def test_it_is_the_documented_formula() -> None:
    """In plain loops, with blocks of more than one window."""
    tokens = counts(60)
    sums = autoregressive(60, 0.6, seed=0) * tokens
    n, length = 60, 3
    mean = math.fsum(sums.tolist()) / math.fsum(tokens.tolist())
    d = [s - mean * c for s, c in zip(sums.tolist(), tokens.tolist(), strict=True)]
    around = [math.fsum(d[(i + j) % n] for j in range(length)) for i in range(n)]
    blocks = n / length
    variance = blocks * math.fsum(a * a for a in around) / n * blocks / (blocks - 1)
    found = windowed_mean(sums, tokens, length)
    assert found.value == pytest.approx(mean, rel=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(variance) / math.fsum(tokens.tolist()), rel=1e-12)
    assert found.degrees_of_freedom == pytest.approx(blocks - 1, rel=1e-12)


@pytest.mark.parametrize("length", [1, 4])
def test_arch_s_resampling_tends_to_it(length: int) -> None:
    """But for the correction for few blocks. The standard deviation of 4000 means is known to 1.1 %: four of it."""
    values = autoregressive(120, 0.6, seed=3)
    resampler = CircularBlockBootstrap(length, values.numpy(), seed=1)
    means = resampler.apply(lambda x: np.array([x.mean()]), reps=4000)
    found = windowed_mean(values, torch.ones(120, dtype=torch.float64), length)
    assert found.degrees_of_freedom == 120 / length - 1
    corrected = float(means.std()) * math.sqrt(1 + 1 / found.degrees_of_freedom)
    assert found.standard_error == pytest.approx(corrected, rel=0.045)


def test_single_windows_give_the_sample_s_standard_error() -> None:
    values = white_noise(100, seed=4)
    found = windowed_mean(values, torch.ones(100, dtype=torch.float64), 1)
    assert found.standard_error == pytest.approx(float(values.std()) / 10, rel=1e-12)
    assert found.degrees_of_freedom == 99


@pytest.mark.parametrize(("windows", "longest"), [(20, 3), (64, 4), (125, 5)])
def test_blocks_are_no_longer_than_the_cube_root(windows: int, longest: int) -> None:
    """A random walk, whose autocorrelation asks for the longest there may be."""
    values = torch.cumsum(white_noise(windows, seed=5), 0)
    assert _block_length(values.numpy()) > longest
    found = windowed_mean(values, torch.ones(windows, dtype=torch.float64))
    assert found.degrees_of_freedom == windows / longest - 1


def test_blocks_follow_the_means_and_not_how_much_the_windows_hold() -> None:
    """Means that know nothing of each other. Times the tokens, which grow, they would ask for long blocks."""
    means, tokens = 5 + white_noise(64, seed=2), torch.arange(1, 65, dtype=torch.float64)
    assert _block_length(means.numpy()) == 1
    assert _block_length((means * tokens**2).numpy()) > 1
    assert windowed_mean(means * tokens, tokens) == windowed_mean(means * tokens, tokens, 1)


def test_equal_windows_have_no_error() -> None:
    tokens = counts(30)
    found = windowed_mean(0.5 * tokens, tokens)
    assert (found.value, found.standard_error) == (0.5, 0.0)


def test_a_token_held_for_impossible_leaves_nothing_known() -> None:
    sums = white_noise(30, seed=0)
    sums[3] = math.inf
    found = windowed_mean(sums, counts(30))
    assert found == WindowedMean(math.inf, math.inf, 1.0)


def test_too_few_windows_are_refused() -> None:
    windows = MIN_WINDOWS - 1
    with pytest.raises(QuantError, match=f"{windows} windows are too few for a standard error, it takes {MIN_WINDOWS}"):
        windowed_mean(white_noise(windows, seed=0), counts(windows))
    assert windowed_mean(white_noise(MIN_WINDOWS, seed=0), counts(MIN_WINDOWS)).standard_error > 0


def test_other_lengths_are_refused() -> None:
    with pytest.raises(QuantError, match="same tokens"):
        windowed_mean(white_noise(30, seed=0), counts(31))
