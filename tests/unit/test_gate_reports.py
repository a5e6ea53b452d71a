"""What is told of thresholds: each figure with its unit, computed here."""

import dataclasses
from typing import Any

import pytest

from quant.evaluate.thresholds import Threshold
from quant.gate_reports import POOR_POWER, PoorPowerWarning, power_of, recorded_lines, warn_of_poor_power
from tests.unit.evaluate.made import TOKENS, WINDOWS, recorded

KNOWN = {"perplexity_ratio": 1.25, "perplexity_margin": 0.015, "kl": 0.02, "kl_margin": 0.005}
POWER = "a worsening of 1.500 % of the perplexity ratio, or 25.0 % of the KL divergence, is caught at a false-alarm "


def threshold(**changes: Any) -> Threshold:
    return dataclasses.replace(recorded(), **{**KNOWN, **changes})


def test_power_is_a_percentage_of_each_figure() -> None:
    assert power_of(threshold()) == f"{POWER}rate of 0.0001"


def test_of_no_divergence_there_is_no_percentage() -> None:
    assert ", or 5.0e-03 nats of the KL divergence, is caught" in power_of(threshold(kl=0.0))


def test_what_recording_changed_is_before_and_after() -> None:
    old = threshold(perplexity_ratio=1.5, kl=0.25)
    assert recorded_lines("nf4", old, threshold()) == [
        "nf4: perplexity ratio 1.500000 -> 1.250000, KL divergence 2.5000e-01 -> 2.0000e-02 nats",
        f"  {POWER}rate of 0.0001",
    ]


def test_where_nothing_was_before_the_new_figures_are_told() -> None:
    assert recorded_lines("nf4", "new", threshold()) == [
        "nf4: new: perplexity ratio 1.250000, KL divergence 2.0000e-02 nats",
        f"  {POWER}rate of 0.0001",
    ]


def test_poor_power_is_warned_of_and_its_limit_is_not(recwarn: pytest.WarningsRecorder) -> None:
    warn_of_poor_power("nf4", threshold(perplexity_margin=POOR_POWER))
    assert not recwarn
    text = f"nf4: of {WINDOWS * TOKENS} tokens, only a worsening of 10.100 % .*: hold it to more text, and record it"
    with pytest.warns(PoorPowerWarning, match=text):
        warn_of_poor_power("nf4", threshold(perplexity_margin=0.101))
