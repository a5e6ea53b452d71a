"""How the bootstrap is set up: blocks as long as the windows' means are autocorrelated, resamples, their interval."""

import math
import warnings
from types import SimpleNamespace
from typing import Any

import arch.bootstrap
import numpy as np
import pytest
import torch

from quant.evaluate.statistics import CONFIDENCE, RESAMPLES, _block_length, bootstrap_mean

WINDOWS = 21


@pytest.mark.parametrize(
    ("suggested", "length"),
    [(math.nan, 1), (0.3, 1), (1.0, 1), (1.01, 2), (7.0, 7), (10.0, 10), (11.0, 10), (500.0, 10)],
)
def test_blocks_have_the_suggested_length_rounded_up_and_at_most_half_of_the_windows(
    monkeypatch: pytest.MonkeyPatch, suggested: float, length: int
) -> None:
    """The suggestion is for the means of the windows, which hold differently many tokens."""
    counts = torch.arange(1, WINDOWS + 1)
    window_of_token = torch.repeat_interleave(torch.arange(WINDOWS), counts)
    means = torch.arange(WINDOWS, dtype=torch.float64).remainder(5)
    seen: dict[str, Any] = {}

    def suggest(values: Any) -> Any:
        seen["means"] = values
        return {"circular": SimpleNamespace(iloc=[suggested])}

    class Resampler:
        def __init__(self, block: int, sums: Any, tokens: Any, seed: int) -> None:
            seen.update(block=block, sums=sums, tokens=tokens)

        def conf_int(self, function: Any, **options: Any) -> Any:
            seen["options"] = options
            return np.array([[0.25], [0.75]])

    monkeypatch.setattr(arch.bootstrap, "optimal_block_length", suggest)
    monkeypatch.setattr(arch.bootstrap, "CircularBlockBootstrap", Resampler)
    estimate = bootstrap_mean(means[window_of_token], window_of_token)
    assert estimate.interval == (0.25, 0.75)
    assert seen["block"] == length
    assert isinstance(seen["block"], int)
    assert seen["means"].tolist() == means.tolist()
    assert seen["tokens"].tolist() == counts.tolist()
    assert seen["sums"].tolist() == (means * counts).tolist()
    assert seen["options"] == {"reps": RESAMPLES, "method": "percentile", "size": CONFIDENCE}


def test_only_the_warnings_of_arithmetic_are_kept_from_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def suggest(values: Any) -> Any:
        warnings.warn("0 / 0", RuntimeWarning, stacklevel=1)
        warnings.warn("ask for circular blocks", FutureWarning, stacklevel=1)
        return {"circular": SimpleNamespace(iloc=[1.0])}

    monkeypatch.setattr(arch.bootstrap, "optimal_block_length", suggest)
    with pytest.warns() as told:
        assert _block_length(np.zeros(WINDOWS)) == 1
    assert [warning.category for warning in told] == [FutureWarning]
