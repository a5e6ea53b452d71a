"""Did a quantized model get worse than it was? Three checks against a recorded threshold, each with its power stated.

All three compare the same tokens now and as recorded, window by window, so that the text's own variation cancels:

| check | statistic | red where |
|---|---|---|
| perplexity ratio | mean over tokens of the loss minus the baseline's, now minus recorded | outside +- its margin |
| KL divergence | mean over tokens of KL(baseline, model), now minus recorded | outside +- its margin |
| change | root mean square over windows of the same difference of losses | above 5 times the rounding noise |

The first two are about accuracy and know their uncertainty. With s the standard error of the difference (bootstrap over
windows, whole windows being the blocks) and q the two-sided quantile of Student's t at `FALSE_ALARM`, the verdict is
*pass* where value +- q s lies within the margin, *regression* where it lies outside, and otherwise *inconclusive*, with
the number of tokens that would decide.

The margin is derived, when the threshold is recorded, from the standard error SE of the recorded figure. Two equally
good quantizers whose errors are independent differ by a standard error of s0 = sqrt(2) SE at most, since what the text
does to both cancels; s, being estimated, exceeds it by more than the root f of the quantile of Fisher's F once in 2 /
`FALSE_ALARM` times. With margin = (q + f q) s0 a model as good as the recorded one is not passed with a probability of
`FALSE_ALARM`, and one that is worse by the margin passes with no more. That is the check's power, stated beside it; it
grows with the root of the number of tokens. The margin never comes from the uncertainty of the model under test:
garbage has a large one.

Windows count as independent here: they share no context, and what a subject that goes on does to both models cancels in
the difference (measured between equally good quantizers, six pairs on 64 windows: an autocorrelation of -0.13 to 0.09,
where chance alone gives +-0.12). A figure by itself has no such excuse, see `quant.evaluate.budgets`.

A fault that costs less than the margin is invisible to both, and so is one that makes a model too good, such as a layer
left unquantized. The third check asks whether the results are the recorded ones at all. Integer layers give the same
bits everywhere, so all that may move is rounding in the float parts, which `quant.evaluate.noise` measures when the
threshold is recorded.

Refused: thresholds of other tokens, windows or dtype, and of a model whose own, unquantized losses have changed.
"""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.divergence import Measurement
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.statistics import WindowedMean, window_sums, windowed_mean
from quant.evaluate.thresholds import UPDATE, Threshold, Windows

FALSE_ALARM = 1e-4
"""Probability that a check does not pass an equally good model, and that it passes one that is worse by its margin."""
NOISE_FACTOR = 5
"""Losses may move by this times the measured rounding noise. Real machines and the torch fallback move those of the
embedded model by 0.7 to 2.7 times the noise; the least fault that the tests plant, that one of 24 layers of W8A16 in
float32 which matters least left unquantized, by 8 times.
"""


SINGLE = 1
"""Windows taken for one block."""


class Verdict(Enum):
    """What a check answers."""

    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Check:
    """One check's verdict and the line that explains it; more_tokens: what an inconclusive one would take, about."""

    name: str
    verdict: Verdict
    text: str
    more_tokens: int | None = None


@dataclass(frozen=True)
class GateResult:
    """All checks of one scheme."""

    scheme: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """Regression if any check says so, else inconclusive if any does, else pass."""
        verdicts = [check.verdict for check in self.checks]
        ranked = (Verdict.REGRESSION, Verdict.INCONCLUSIVE)
        return next((verdict for verdict in ranked if verdict in verdicts), Verdict.PASS)

    def __str__(self) -> str:
        return "\n".join([f"{self.scheme}: {self.verdict.value}", *(f"  {check.text}" for check in self.checks)])


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


def decide(mean: WindowedMean, low: float, high: float) -> tuple[Verdict, float, float]:
    """The verdict on a mean that should lie in [low, high]; its reach q s; and by which factor there are too few tokens
    to tell (1 where there are enough).
    """
    value, reach = mean.value, quantile(mean.degrees_of_freedom) * mean.standard_error
    if not math.isfinite(value):
        return Verdict.REGRESSION, reach, 1.0
    if low <= value - reach and value + reach <= high:
        return Verdict.PASS, reach, 1.0
    if value - reach > high or value + reach < low:
        return Verdict.REGRESSION, reach, 1.0
    distance = min(abs(value - low), abs(value - high))
    return Verdict.INCONCLUSIVE, reach, (reach / distance) ** 2 if distance else math.inf


def per_window(baseline: Measurement, measured: Measurement) -> Windows:
    """The means over each window that a threshold keeps.

    Raises:
        QuantError: `measured` was never compared with a baseline.
    """
    if measured.kl is None or measured.top1 is None:
        raise QuantError("this measurement has no divergence from a baseline: make it with Baseline.compare")
    window = baseline.window_of_token
    counts = window_sums(torch.ones_like(baseline.losses), window)
    means = (window_sums(values, window) / counts for values in (baseline.losses, measured.losses, measured.kl))
    return Windows(counts, *means)


def derive_threshold(
    baseline: Measurement,
    measured: Measurement,
    noisy_baseline: Tensor,
    noisy: Tensor,
    provenance: dict[str, object],
) -> Threshold:
    """The threshold of a model, from its measurement and one under `rounding_noise`.

    Args:
        noisy_baseline, noisy: float64 [N - 1], losses of the unquantized and the quantized model under the noise.

    Raises:
        QuantError: too few windows for a standard error.
    """
    windows = per_window(baseline, measured)
    assert measured.top1 is not None
    figures = (windows.excess * windows.tokens, windows.kl * windows.tokens)
    excess, kl = (windowed_mean(sums, windows.tokens, SINGLE) for sums in figures)
    disturbed, disturbed_baseline = (
        window_sums(losses, baseline.window_of_token) / windows.tokens for losses in (noisy, noisy_baseline)
    )
    return Threshold(
        perplexity_ratio=math.exp(excess.value),
        perplexity_margin=margin(excess),
        kl=kl.value,
        kl_margin=margin(kl),
        noise=_rms(disturbed - windows.losses),
        baseline_noise=_rms(disturbed_baseline - windows.baseline),
        baseline_perplexity=perplexity_of(baseline.losses),
        top1_agreement=float(measured.top1.double().mean()),
        windows=windows,
        provenance=provenance,
    )


def judge(scheme: str, threshold: Threshold, baseline: Measurement, measured: Measurement) -> GateResult:
    """Hold `measured` to what was recorded.

    Raises:
        QuantError: the threshold is of other tokens, windows or dtype, or of another unquantized model.
    """
    threshold.require_same_text(baseline.fingerprint)
    now = per_window(baseline, measured)
    moved = _rms(now.baseline - threshold.windows.baseline)
    if not moved <= NOISE_FACTOR * threshold.baseline_noise:
        then, today = threshold.baseline_perplexity, perplexity_of(baseline.losses)
        raise QuantError(
            f"{scheme}: the unquantized model's own losses are not the recorded ones: perplexity {then:.6g} then and "
            f"{today:.6g} now; its windows moved by {moved:.2e} nats, rounding moves them by "
            f"{threshold.baseline_noise:.2e}. It is another model, or its float arithmetic has changed: find out "
            f"which, then record anew with {UPDATE}"
        )
    return GateResult(scheme, (_ratio_check(threshold, now), _kl_check(threshold, now), _change_check(threshold, now)))


def _ratio_check(threshold: Threshold, now: Windows) -> Check:
    excess = now.excess - threshold.windows.excess
    mean = windowed_mean(excess * now.tokens, now.tokens, SINGLE)
    then = threshold.perplexity_ratio
    what = f"perplexity ratio {then:.6f} recorded, {then * _exp(mean.value):.6f} now"
    limit = threshold.perplexity_margin
    verdict, reach, factor = decide(mean, -limit, limit)
    figures = f"{100 * mean.value:+.4f} % +- {100 * reach:.4f} %, may move by {100 * limit:.4f} %"
    return explained("perplexity ratio", f"{what}: {figures}", verdict, factor, now)


def _kl_check(threshold: Threshold, now: Windows) -> Check:
    mean = windowed_mean((now.kl - threshold.windows.kl) * now.tokens, now.tokens, SINGLE)
    what = f"KL divergence {threshold.kl:.4e} nats recorded, {threshold.kl + mean.value:.4e} now"
    limit = threshold.kl_margin
    verdict, reach, factor = decide(mean, -limit, limit)
    value, reach, limit = (100 * part / threshold.kl for part in (mean.value, reach, limit))
    figures = f"{what}: {value:+.2f} % +- {reach:.2f} %, may move by {limit:.2f} %"
    return explained("KL divergence", figures, verdict, factor, now)


def _change_check(threshold: Threshold, now: Windows) -> Check:
    moved, limit = _rms(now.losses - threshold.windows.losses), NOISE_FACTOR * threshold.noise
    verdict = Verdict.PASS if moved <= limit else Verdict.REGRESSION
    text = f"losses of the windows moved by {moved:.2e} nats (root mean square), rounding may move them by {limit:.2e}"
    if verdict is Verdict.REGRESSION:
        text += f", these are not the recorded results: if the change is meant, record it with {UPDATE}"
    return Check("change", verdict, f"{text}: {verdict.value}", None)


def explained(name: str, figures: str, verdict: Verdict, factor: float, windows: Windows) -> Check:
    """A check with its line: the figures, the verdict, and how many more tokens it takes where there are too few."""
    text = f"{figures}: {verdict.value}"
    if verdict is not Verdict.INCONCLUSIVE:
        return Check(name, verdict, text)
    tokens = int(windows.tokens.sum())
    # Beyond a thousand times the text the estimate lies on the limit: no number of tokens is worth naming.
    more = math.ceil((factor - 1) * tokens) if factor < 1000 else None
    needed = f"about {more:,} more tokens" if more else f"more than {1000 * tokens:,} tokens"
    return Check(name, verdict, f"{text}, it takes {needed} to tell", more)


def _rms(differences: Tensor) -> float:
    return float((differences**2).mean().sqrt())


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
