"""A measurement held to limits from both sides: perplexity, KL divergence and top-1 agreement.

The verdicts are those of `quant.evaluate.gates`: pass where the figure lies between the limits by q standard errors,
regression where it lies outside by as much, else inconclusive. Too good is a fault as well: a model in which nothing
was quantized agrees with its baseline perfectly.
"""

from torch import Tensor

from quant.evaluate.divergence import Measurement
from quant.evaluate.gates import Check, GateResult, decide, explained, too_few_by
from quant.evaluate.recording import per_window
from quant.evaluate.statistics import window_sums, windowed_mean
from quant.evaluate.thresholds import WindowMeans
from tests.gpu.references import Limits

DIGITS = 3
"""Significant digits in messages."""


def hold(scheme: str, limits: Limits, baseline: Measurement, measured: Measurement) -> GateResult:
    """Hold `measured`, which was compared with `baseline`, to `limits`.

    Raises:
        QuantError: too few windows for a standard error.
    """
    windows = per_window(baseline, measured)
    assert measured.top1 is not None
    agreed = window_sums(measured.top1.double(), baseline.window_of_token)
    return GateResult(
        scheme,
        (
            _between("log perplexity ratio", windows.excess * windows.tokens, windows, limits.log_ratio),
            _between("KL divergence, nats", windows.kl * windows.tokens, windows, limits.kl),
            _between("top-1 agreement", agreed, windows, limits.top1),
        ),
    )


def _between(name: str, sums: Tensor, windows: WindowMeans, limits: tuple[float, float]) -> Check:
    """The mean over tokens of what sums to `sums` (float64 [windows]), held to (low, high)."""
    low, high = limits
    mean = windowed_mean(sums, windows.tokens)
    verdict, reach = decide(mean, low, high)
    distance = min(abs(mean.value - low), abs(mean.value - high))
    figures = f"{name} {mean.value:.{DIGITS}g} +- {reach:.1g}, from {low:.{DIGITS}g} to {high:.{DIGITS}g}"
    return explained(name, figures, verdict, too_few_by(reach, distance), windows)
