"""What is recorded of a quantized model, for `quant.evaluate.gates` to hold it to: its figures and their margins.

Both follow from the means of each window. The margin of a figure is the worsening that its check catches, derived from
the standard error SE of the figure (bootstrap over windows, whole windows being the blocks). Two equally good
quantizers whose errors are independent differ by a standard error of s0 = sqrt(2) SE at most, since what the text does
to both cancels. A check passes where value +- q s lies within the margin, with s the standard error of the difference
and q the two-sided quantile of Student's t at `FALSE_ALARM`. As an estimate, s exceeds s0 by more than the root f of
the quantile of Fisher's F once in 2 / `FALSE_ALARM` times. So with

    margin = (q + f q) s0

a model as good as the recorded one is not passed about once in 1 / `FALSE_ALARM` times, and one that is worse by the
margin is passed no more often: that is the check's power, stated beside it (docs/accuracy-gates.md counts both in
simulations). It grows with the root of the number of tokens. The margin never comes from the uncertainty of the model
under test: garbage has a large one.

Windows count as independent here: they share no context, and what a subject that goes on does to both models cancels in
the difference (measured between equally good quantizers, six pairs on 64 windows: an autocorrelation of -0.13 to 0.09,
where chance alone gives +-0.12). A figure by itself has no such excuse, see `quant.evaluate.budgets`.

Refused: recording a model that gives a token probability 0, and thresholds whose figures or margins do not
follow from their windows. Such a file has been edited, or was written at another rate of false alarms.
"""

import math
from typing import Any

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.divergence import Measurement
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.statistics import WindowedMean, exp, window_sums, windowed_mean
from quant.evaluate.thresholds import UPDATE, Threshold, WindowMeans

FALSE_ALARM = 1e-4
"""Probability that a check does not pass an equally good model, and that it passes one that is worse by its margin."""
SINGLE = 1
"""Windows taken for one block."""
SAME = 1e-9
"""How far a recorded figure may be from what its windows give, of itself. These are stored as they were derived from,
and the file keeps every digit, so that other releases of scipy, whose quantiles these are, may differ by rounding.
"""


def quantile(degrees_of_freedom: float) -> float:
    """Standard errors that a normal mean is off by with probability `FALSE_ALARM`, either side."""
    from scipy.stats import t  # noqa: PLC0415  # half a second to import

    return float(t.ppf(1 - FALSE_ALARM / 2, degrees_of_freedom))


def margin(mean: WindowedMean) -> float:
    """The worsening of `mean` that a check catches: (q + f q) sqrt(2) SE, as derived in the module docstring."""
    from scipy.stats import f  # noqa: PLC0415

    degrees = mean.degrees_of_freedom
    ratio = math.sqrt(float(f.ppf(1 - FALSE_ALARM / 2, degrees, degrees)))
    return (1 + ratio) * quantile(degrees) * math.sqrt(2) * mean.standard_error


def per_window(baseline: Measurement, measured: Measurement) -> WindowMeans:
    """The means over each window, with the digits that a threshold keeps.

    Raises:
        QuantError: `measured` was never compared with a baseline.
    """
    if measured.kl is None or measured.top1 is None:
        raise QuantError("this measurement has no divergence from a baseline: make it with Baseline.compare")
    window = baseline.window_of_token
    counts = window_sums(torch.ones_like(baseline.losses), window)
    means = (window_sums(values, window) / counts for values in (baseline.losses, measured.losses, measured.kl))
    return WindowMeans(counts, *means).rounded()


def moved(now: Tensor, then: Tensor, tokens: Tensor) -> float:
    """Root mean square over tokens of the difference between two means over windows, nats; all float64 [windows].

    Weighted by tokens: rounding moves the mean of a short window, as the last one may be, further than the others.
    """
    return math.sqrt(float(((now - then) ** 2 * tokens).sum() / tokens.sum()))


def figures_of(windows: WindowMeans) -> dict[str, float]:
    """perplexity_ratio, perplexity_margin (of its logarithm), kl and kl_margin (nats per token).

    Raises:
        QuantError: too few windows for a standard error.
    """
    sums = (windows.excess * windows.tokens, windows.kl * windows.tokens)
    excess, kl = (windowed_mean(values, windows.tokens, SINGLE) for values in sums)
    return {
        "perplexity_ratio": exp(excess.value),
        "perplexity_margin": margin(excess),
        "kl": kl.value,
        "kl_margin": margin(kl),
    }


def derive_threshold(
    baseline: Measurement,
    measured: Measurement,
    noisy_baseline: Tensor,
    noisy: Tensor,
    layers: dict[str, list[str]],
    floats: dict[str, str],
    provenance: dict[str, Any],
) -> Threshold:
    """The threshold of a model, from its measurement and one under `quant.evaluate.noise.rounding_noise`.

    Args:
        noisy_baseline, noisy: float64 [N - 1], losses of the unquantized and the quantized model under the noise.
        layers, floats: of the quantized model, as `quant.evaluate.layers.layer_formats` and
            `quant.evaluate.parameters.float_digests` give them.
        provenance: what was measured, where and how; the rate of false alarms is added.

    Raises:
        QuantError: too few windows for a standard error, or figures that are not finite.
    """
    windows = per_window(baseline, measured)
    assert measured.top1 is not None
    disturbed, disturbed_baseline = (
        window_sums(losses, baseline.window_of_token) / windows.tokens for losses in (noisy, noisy_baseline)
    )
    figures = {
        **figures_of(windows),
        "noise": moved(disturbed, windows.losses, windows.tokens),
        "baseline_noise": moved(disturbed_baseline, windows.baseline, windows.tokens),
    }
    infinite = [name for name, figure in figures.items() if not math.isfinite(figure)]
    if infinite:
        raise QuantError(
            f"nothing can be held to figures that are not finite ({', '.join(infinite)}): the model gives a token of "
            "this text probability 0; repair the model, or leave the scheme out"
        )
    return Threshold(
        **figures,
        baseline_perplexity=perplexity_of(baseline.losses),
        top1_agreement=float(measured.top1.double().mean()),
        layers=layers,
        floats=floats,
        windows=windows,
        provenance={**provenance, "false_alarm_rate": FALSE_ALARM},
    )


def require_derived(threshold: Threshold) -> None:
    """Raises:
    QuantError: a figure or margin that does not follow from the recorded windows at today's `FALSE_ALARM`.
    """
    rate = threshold.provenance.get("false_alarm_rate")
    derived = figures_of(threshold.windows)
    edited = [
        f"{name} {getattr(threshold, name):.9g} instead of {figure:.9g}"
        for name, figure in derived.items()
        if not math.isclose(getattr(threshold, name), figure, rel_tol=SAME)
    ]
    if rate != FALSE_ALARM or edited:
        what = "; ".join(edited) or f"false alarms at a rate of {rate} instead of {FALSE_ALARM:g}"
        raise QuantError(
            f"the threshold does not follow from its own windows ({what}): it was edited, or derived by another "
            f"version; restore it, or record it with {UPDATE}"
        )
