"""May a quantized model cost that much? Limits that somebody sets, on the perplexity ratio and the KL divergence.

A budget needs no earlier run: the model is measured beside its baseline, and each figure is held to its limit with the
verdicts of `quant.evaluate.gates`: pass where it lies below by q standard errors, regression where it lies above by as
much, and inconclusive between. A text too short to tell is an answer of its own, not a pass.
"""

import math

from quant.errors import QuantError
from quant.evaluate.divergence import Measurement
from quant.evaluate.gates import Check, GateResult, decide, explained, too_few_by
from quant.evaluate.recording import per_window
from quant.evaluate.statistics import exp, windowed_mean

LEAST_RATIO, MOST_RATIO = 0.9, 2
"""Limits outside, and these themselves, are taken for something else, such as percent: quantizing does not make a model
better by a tenth, and nobody allows it twice the perplexity.
"""


def check_limits(max_perplexity_ratio: float | None, max_kl: float | None) -> None:
    """Raises:
    QuantError: no limit, one that is not positive, or a ratio that is none.
    """
    limits = {"max_perplexity_ratio": max_perplexity_ratio, "max_kl": max_kl}
    if all(limit is None for limit in limits.values()):
        raise QuantError(f"a budget needs a limit: pass {' or '.join(limits)}")
    for name, limit in limits.items():
        if limit is not None and not 0 < limit < math.inf:
            raise QuantError(f"{name} {limit} is not a limit: pass a positive number")
    ratio = max_perplexity_ratio
    if ratio is not None and not LEAST_RATIO < ratio < MOST_RATIO:
        raise QuantError(
            f"max_perplexity_ratio {ratio} is not between {LEAST_RATIO} and {MOST_RATIO}: it is the quantized "
            "model's perplexity over the baseline's, 1.01 means 1 % worse"
        )


def judge_budget(
    scheme: str,
    baseline: Measurement,
    measured: Measurement,
    max_perplexity_ratio: float | None = None,
    max_kl: float | None = None,
) -> GateResult:
    """Hold `measured` to limits: max_perplexity_ratio, as in 1.01; max_kl, nats per token.

    Raises:
        QuantError: as `check_limits`, or too few windows for a standard error.
    """
    check_limits(max_perplexity_ratio, max_kl)
    windows = per_window(baseline, measured)
    checks: list[Check] = []
    if max_perplexity_ratio is not None:
        mean = windowed_mean(windows.excess * windows.tokens, windows.tokens)
        limit = math.log(max_perplexity_ratio)
        verdict, reach = decide(mean, -math.inf, limit)
        figures = f"perplexity ratio {exp(mean.value):.5f} +- {100 * reach:.3f} %, at most {max_perplexity_ratio:g}"
        checks.append(explained("perplexity ratio", figures, verdict, too_few_by(reach, mean.value - limit), windows))
    if max_kl is not None:
        mean = windowed_mean(windows.kl * windows.tokens, windows.tokens)
        verdict, reach = decide(mean, -math.inf, max_kl)
        figures = f"KL divergence {mean.value:.3e} +- {reach:.1e} nats, at most {max_kl:g}"
        checks.append(explained("KL divergence", figures, verdict, too_few_by(reach, mean.value - max_kl), windows))
    return GateResult(scheme, tuple(checks))
