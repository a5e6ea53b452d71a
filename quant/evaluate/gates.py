"""Did a quantized model get worse than it was? Three checks against a recorded threshold, each with its power stated.

All three compare the same tokens now and as recorded, window by window, so that the text's own variation cancels:

| check | statistic | red where |
|---|---|---|
| perplexity ratio | mean over tokens of the loss minus the baseline's, now minus recorded | outside +- its margin |
| KL divergence | mean over tokens of KL(baseline, model), now minus recorded | outside +- its margin |
| change | root mean square over windows (weighted by tokens) of the losses, now minus recorded | above 5 x noise |

The first two are about accuracy and know their uncertainty. With s the standard error of the difference and q the
quantile of Student's t, the verdict is *pass* where value +- q s lies within the margin, *regression* where it lies
outside, and otherwise *inconclusive*, with the number of tokens that would decide: of a longer text, on which the last
good model is recorded first, so that the margin shrinks with q s. `quant.evaluate.recording` derives the margins and
says what they promise.

A fault that costs less than the margin is invisible to both, and so is one that makes a model too good, such as a layer
left unquantized. The third check asks whether the results are the recorded ones at all. Integer layers give the same
bits on every CPU, so all that may move is rounding in the float parts, which `quant.evaluate.noise` measures when the
threshold is recorded. On GPUs the quantized layers compute in floats too: a threshold holds for the kind of device that
it was recorded on.

How fine that is depends on the model's dtype: rounding moves the windows of the embedded model by 5e-6 nats in float32
and those of small models in bfloat16 by 2e-3 to 7e-3. There the check sees gross changes only; what is exact in every
dtype are checks of the model itself: `quant.evaluate.layers`, `quant.evaluate.parameters`, and the digest of the
unquantized model's weights in `quant.gated_model`.

Refused: thresholds of other tokens, windows, dtype or kind of device, of a model whose own, unquantized losses have
changed, and those that were edited.
"""

import math
from dataclasses import dataclass
from enum import Enum

from quant.errors import QuantError
from quant.evaluate.divergence import Measurement
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.recording import SINGLE, moved, per_window, quantile, require_derived
from quant.evaluate.statistics import WindowedMean, exp, windowed_mean
from quant.evaluate.thresholds import UPDATE, Threshold, WindowMeans

NOISE_FACTOR = 5
"""Losses may move by this times the measured rounding noise. Real machines and the torch fallback move those of the
embedded model by 0.7 to 2.7 times the noise; the least fault that this check is to see, that one of 24 layers of W8A16
in float32 which matters least left unquantized, by 9 times.
"""
RECORD_LONGER = ": record the last good model on so long a text, then hold this one to that"
"""A threshold of another text is refused. Recorded anew its margin has shrunk as the reach has, so that a value that
stays where it is leaves the limit by the whole reach where it equals their sum.
"""


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


def decide(mean: WindowedMean, low: float, high: float) -> tuple[Verdict, float]:
    """The verdict on a mean that should lie in [low, high], and its reach q s."""
    value, reach = mean.value, quantile(mean.degrees_of_freedom) * mean.standard_error
    if not math.isfinite(value):
        return Verdict.REGRESSION, reach
    if low <= value - reach and value + reach <= high:
        return Verdict.PASS, reach
    if value - reach > high or value + reach < low:
        return Verdict.REGRESSION, reach
    return Verdict.INCONCLUSIVE, reach


def too_few_by(width: float, distance: float) -> float:
    """How many times the tokens it takes until `width`, which falls with the root of their number, is `distance`."""
    return (width / distance) ** 2 if distance else math.inf


def judge(scheme: str, threshold: Threshold, baseline: Measurement, measured: Measurement) -> GateResult:
    """Hold `measured` to what was recorded.

    Raises:
        QuantError: the threshold is of other tokens, windows, dtype or kind of device, of another unquantized model,
            or was edited.
    """
    threshold.require_same_measurement(baseline.fingerprint)
    require_derived(threshold)
    now = per_window(baseline, measured)
    distance = moved(now.baseline, threshold.windows.baseline, now.tokens)
    if not distance <= NOISE_FACTOR * threshold.baseline_noise:
        then, today = threshold.baseline_perplexity, perplexity_of(baseline.losses)
        raise QuantError(
            f"{scheme}: the unquantized model's own losses are not the recorded ones: perplexity {then:.6g} then and "
            f"{today:.6g} now; its windows moved by {distance:.2e} nats, rounding moves them by "
            f"{threshold.baseline_noise:.2e}. It is another model, or its float arithmetic has changed: find out "
            f"which, then record anew with {UPDATE}"
        )
    return GateResult(scheme, (_ratio_check(threshold, now), _kl_check(threshold, now), _change_check(threshold, now)))


def _ratio_check(threshold: Threshold, now: WindowMeans) -> Check:
    excess = now.excess - threshold.windows.excess
    mean = windowed_mean(excess * now.tokens, now.tokens, SINGLE)
    then = threshold.perplexity_ratio
    what = f"perplexity ratio {then:.6f} recorded, {then * exp(mean.value):.6f} now"
    limit = threshold.perplexity_margin
    verdict, reach = decide(mean, -limit, limit)
    figures = f"{100 * mean.value:+.4f} % +- {100 * reach:.4f} %, may move by {100 * limit:.4f} %"
    factor = too_few_by(limit + reach, mean.value)
    return explained("perplexity ratio", f"{what}: {figures}", verdict, factor, now, _remedy(verdict, mean.value))


def _kl_check(threshold: Threshold, now: WindowMeans) -> Check:
    mean = windowed_mean((now.kl - threshold.windows.kl) * now.tokens, now.tokens, SINGLE)
    what = f"KL divergence {threshold.kl:.4e} nats recorded, {threshold.kl + mean.value:.4e} now"
    limit = threshold.kl_margin
    verdict, reach = decide(mean, -limit, limit)
    unit, percent = (" %", 100 / threshold.kl) if threshold.kl else (" nats", 1.0)
    value, reach, limit = (percent * part for part in (mean.value, reach, limit))
    figures = f"{what}: {value:+.2f}{unit} +- {reach:.2f}{unit}, may move by {limit:.2f}{unit}"
    return explained("KL divergence", figures, verdict, too_few_by(limit + reach, value), now, _remedy(verdict, value))


def _remedy(verdict: Verdict, value: float) -> str:
    if verdict is Verdict.REGRESSION and value < 0:
        return f", better than recorded: if the change is meant, record it with {UPDATE}"
    return RECORD_LONGER if verdict is Verdict.INCONCLUSIVE else ""


def _change_check(threshold: Threshold, now: WindowMeans) -> Check:
    distance, limit = moved(now.losses, threshold.windows.losses, now.tokens), NOISE_FACTOR * threshold.noise
    verdict = Verdict.PASS if distance <= limit else Verdict.REGRESSION
    text = (
        f"losses of the windows moved by {distance:.2e} nats (root mean square), rounding may move them by {limit:.2e}"
    )
    if verdict is Verdict.REGRESSION:
        text += f", these are not the recorded results: if the change is meant, record it with {UPDATE}"
    return Check("change", verdict, f"{text}: {verdict.value}")


def explained(
    name: str,
    figures: str,
    verdict: Verdict,
    factor: float,
    windows: WindowMeans,
    remedy: str = "",
) -> Check:
    """A check with its line: the figures, the verdict, and where there are too few tokens by `factor`, how many more it
    takes.
    """
    text = f"{figures}: {verdict.value}"
    if verdict is not Verdict.INCONCLUSIVE:
        return Check(name, verdict, f"{text}{remedy}")
    tokens = int(windows.tokens.sum())
    # Beyond a thousand times the text the estimate lies on the limit: no number of tokens is worth naming.
    more = math.ceil((factor - 1) * tokens) if factor < 1000 else None
    needed = f"about {more:,} more tokens" if more else f"more than {1000 * tokens:,} tokens"
    return Check(name, verdict, f"{text}, it takes {needed} to tell{remedy}", more)
