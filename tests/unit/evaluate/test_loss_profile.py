"""Where the losses are, against loops over the tokens, with the definitions written out a second time."""

import math
import random

import pytest
import torch

from quant.evaluate.divergence import Baseline
from quant.evaluate.loss_profile import LEVELS, loss_profile, means_by_position, position_bins, quantiles, window_means
from quant.evaluate.windows import TokenWindows
from tests.fakes import ROUNDING, Bigram, Context, stream, table

VOCAB = 11


def positions_of(windows: TokenWindows) -> list[int]:
    """Tokens of the text before each scored one in its window."""
    return [place - start for start, first, end in windows.spans for place in range(first, end + 1)]


def bounds(position: int) -> tuple[int, int]:
    """1, 2, 3 to 4, 5 to 8, ...: found by doubling."""
    first, last = 1, 1
    while position > last:
        first, last = last + 1, 2 * last
    return first, last


CUTS = [
    pytest.param(8, None, None, id="disjoint"),
    pytest.param(8, 3, None, id="overlapping"),
    pytest.param(9, None, 5, id="BOS"),
    pytest.param(13, 13, None, id="no power of two"),
    pytest.param(1, None, None, id="one token of context"),
]


@pytest.mark.parametrize(("window", "stride", "bos"), CUTS)
def test_positions_and_their_means(window: int, stride: int | None, bos: int | None) -> None:
    windows = TokenWindows(stream(50, VOCAB), window, stride, bos)
    expected: dict[tuple[int, int], list[float]] = {}
    values = [float(3 + index % 7) for index in range(49)]
    positions = positions_of(windows)
    assert windows.position_of_token.tolist() == positions
    for value, position in zip(values, positions, strict=True):
        expected.setdefault(bounds(position), []).append(value)
    longest = max(positions)
    found = position_bins(windows)
    assert [(b.first, b.last, b.tokens) for b in found] == [
        (first, min(last, longest), len(expected[first, last])) for first, last in sorted(expected)
    ]
    means = means_by_position(torch.tensor(values, dtype=torch.float64), windows)
    # Sums of small integers are exact.
    assert means == tuple(math.fsum(expected[key]) / len(expected[key]) for key in sorted(expected))


def test_the_means_of_windows_weigh_what_they_hold() -> None:
    windows = TokenWindows(stream(12, VOCAB), 4)
    values = torch.arange(11, dtype=torch.float64)
    assert window_means(values, windows.window_of_token) == (1.5, 5.5, 9.0)


def test_quantiles_are_those_of_the_sorted_values() -> None:
    """101 values, so that every level falls on one of them."""
    values = [float(value) for value in range(-50, 51)]
    random.Random(3).shuffle(values)
    found = quantiles(torch.tensor(values, dtype=torch.float64))
    assert list(found) == ["0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"]
    assert list(found.values()) == pytest.approx([100 * level - 50 for level in LEVELS], abs=1000 * ROUNDING)


def test_a_quantile_beside_an_infinity_is_none() -> None:
    found = quantiles(torch.tensor([0.0, 1.0, 2.0, math.inf, math.inf, math.inf], dtype=torch.float64))
    assert [found["0.01"], found["0.25"]] == pytest.approx([0.05, 1.25], rel=1e-12)
    assert all(math.isnan(found[level]) for level in ("0.5", "0.75", "0.95", "0.99"))


def test_a_profile_is_of_the_measurement_and_its_difference_to_the_baseline() -> None:
    windows = TokenWindows(stream(60, VOCAB), 8)
    baseline = Baseline(Bigram(table(VOCAB, VOCAB)), windows)
    measured = baseline.compare(Context(table(VOCAB, VOCAB, 1)))
    assert measured.kl is not None
    difference = measured.losses - baseline.losses
    profile = loss_profile(baseline.measurement, measured, windows)
    assert profile.window_losses == window_means(measured.losses, windows.window_of_token)
    assert profile.window_kl == window_means(measured.kl, windows.window_of_token)
    assert profile.loss_by_position == means_by_position(measured.losses, windows)
    assert profile.loss_difference_by_position == means_by_position(difference, windows)
    assert profile.loss_difference_quantiles == quantiles(difference)
    assert profile.loss_difference_quantiles["0.95"] > 0.1 > -0.1 > profile.loss_difference_quantiles["0.05"]
    own = loss_profile(baseline.measurement, baseline.measurement, windows)
    assert own.window_losses == window_means(baseline.losses, windows.window_of_token)
    assert own.loss_by_position == means_by_position(baseline.losses, windows)
    assert (own.window_kl, own.loss_difference_by_position, own.loss_difference_quantiles) == (None, None, {})


def test_an_impossible_token_is_infinite_where_it_stands_and_nowhere_else() -> None:
    windows = TokenWindows(stream(10, VOCAB), 4)
    losses = torch.ones(9, dtype=torch.float64)
    losses[5] = math.inf
    assert window_means(losses, windows.window_of_token) == (1.0, math.inf, 1.0)
    assert means_by_position(losses, windows) == (1.0, math.inf, 1.0)
