"""Measurements and a threshold made by hand, on few windows: what the tests of recording, gates and budgets share."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from quant.evaluate.divergence import Measurement
from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.gates import Check, GateResult
from quant.evaluate.recording import derive_threshold
from quant.evaluate.statistics import WindowedMean
from quant.evaluate.thresholds import Threshold
from tests.unit.evaluate.series import white_noise

WINDOWS, TOKENS = 40, 8
FINGERPRINT = Fingerprint("0" * 64, WINDOWS * TOKENS, TOKENS, TOKENS, None, "float32", 1, "cpu", "any", 1, {})
PROVENANCE: dict[str, object] = dataclasses.asdict(FINGERPRINT)
NOISE = 1e-6
FLOATS = {"norm.weight": "0123456789abcdef"}
LAYERS = {"NF4(block_size=64, double_quant=False)": ["up", "down"], "Linear float32": ["head"]}


def noise(seed: int) -> Tensor:
    """float64 [tokens]: normal, one value a window, so that the standard error over windows is the sample's."""
    return white_noise(WINDOWS, seed).repeat_interleave(TOKENS)


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
    disturbed = BASELINE.losses + shaken, measured.losses - shaken
    threshold = derive_threshold(BASELINE, measured, *disturbed, LAYERS, FLOATS, PROVENANCE)
    return dataclasses.replace(threshold, **changes)


def by_name(result: GateResult) -> dict[str, Check]:
    return {check.name: check for check in result.checks}


def mean(value: float, error: float, degrees: float = 63) -> WindowedMean:
    return WindowedMean(value, error, degrees)
