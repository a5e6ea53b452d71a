"""The checks of `quant.diff`, which says what they mean: one scheme in two runs, a verdict and a line for each."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.gates import Check, Verdict, decide
from quant.evaluate.recording import SINGLE
from quant.evaluate.statistics import exp, windowed_mean
from quant.records import Comparison, Result


@dataclass(frozen=True)
class Difference(Check):
    """A check of two runs. changed: whether its figures did, to the last bit."""

    changed: bool = True


AMPLIFIED = {"float32": 1e4}
"""Dtype -> how many times the baseline's variance by rounding a scheme's may be. Measured on the embedded model under
`quant.evaluate.noise.rounding_noise`, as the square of the ratio of the recorded noises in tests/accuracy: 3,200 to
5,600 in float32, where a change in the last bit moves an activation's code by one of 2^16; 1.1 in bfloat16, whose
last bit is more than that.
"""
AMPLIFIED_BY_16_BITS = 2.0


@dataclass(frozen=True)
class Pair:
    """One scheme in both comparisons."""

    before: Comparison
    after: Comparison
    old: Result
    new: Result

    @property
    def overlapping(self) -> bool:
        """Whether windows share context, so that neighbours are not independent."""
        env = self.after.environment
        return env.stride < env.window - (env.bos_id is not None)


def _sides(pair: Pair) -> tuple[tuple[Comparison, Result], tuple[Comparison, Result]]:
    return (pair.before, pair.old), (pair.after, pair.new)


def accuracy_checks(pair: Pair) -> list[Difference]:
    """The checks of the perplexity and, but for the baseline, of the KL divergence.

    Raises:
        QuantError: a record without means of windows, or too few of them.
    """
    losses = [_windows(comparison, result, "window_losses") for comparison, result in _sides(pair)]
    if pair.old.scheme == pair.before.results[0].scheme:
        figures = f"perplexity {_shown(pair.old.perplexity, '.4f')} -> {_shown(pair.new.perplexity, '.4f')}"
        return [_judged("perplexity", pair, figures, losses, _as_percent)]
    floats = [_windows(comparison, comparison.results[0], "window_losses") for comparison, _ in _sides(pair)]
    excess = [loss - of_float for loss, of_float in zip(losses, floats, strict=True)]
    kl = [_windows(comparison, result, "window_kl") for comparison, result in _sides(pair)]
    ratios = f"{_shown(pair.old.perplexity_ratio, '.6f')} -> {_shown(pair.new.perplexity_ratio, '.6f')}"
    kls = f"{_shown(pair.old.kl_mean, '.4e')} -> {_shown(pair.new.kl_mean, '.4e')} nats"
    return [
        _judged("perplexity ratio", pair, f"perplexity ratio {ratios}", excess, _as_percent),
        _judged("KL divergence", pair, f"KL divergence {kls}", kl, _as_nats, _added_by_rounding(pair, floats, losses)),
    ]


def _added_by_rounding(pair: Pair, floats: list[Tensor], losses: list[Tensor]) -> float:
    """What rounding may have added to the mean KL divergence, nats; 0 where the baseline's windows are the same.

    From the means over windows of the baseline and of the scheme before and after, as `quant.diff` derives it.
    """
    tokens = torch.tensor(pair.after.window_tokens, dtype=torch.float64)
    of_float, of_scheme = (
        float(((after - before) * tokens).square().sum() / tokens.sum()) for before, after in (floats, losses)
    )
    if not math.isfinite(of_float + of_scheme):
        return 0.0
    most = AMPLIFIED.get(pair.after.environment.dtype, AMPLIFIED_BY_16_BITS) * of_float
    return (of_float + min(of_scheme, most)) / 2


def _windows(comparison: Comparison, result: Result, name: str) -> Tensor:
    """float64 [windows]: the means called `name` of a record."""
    values = getattr(result, name)
    if values is None or not comparison.window_tokens:
        raise QuantError(
            f"{result.scheme} has no {name}, by which runs are compared: the record is of an older version, measure it "
            "again, or judge sizes alone with --sizes-only"
        )
    return torch.tensor(values, dtype=torch.float64)


def _judged(
    name: str, pair: Pair, figures: str, values: list[Tensor], show: Callable[[float], str], rounding: float = 0.0
) -> Difference:
    """The check of the means over windows before and after (float64 [windows]); more is worse, but for `rounding`."""
    what = f"{pair.old.scheme}: {figures}"
    before, after = values
    if torch.allclose(before, after, rtol=0, atol=0, equal_nan=True):  # what is not finite is null in the file
        return Difference(name, Verdict.PASS, f"{what}, the same in every window: {Verdict.PASS.value}", changed=False)
    defined = [bool(torch.isfinite(side).all()) for side in values]
    if not all(defined):
        verdict = {
            (True, False): Verdict.REGRESSION,
            (False, True): Verdict.PASS,
            (False, False): Verdict.INCONCLUSIVE,
        }[defined[0], defined[1]]
        return Difference(name, verdict, f"{what}, a token had probability 0: {verdict.value}")
    tokens = torch.tensor(pair.after.window_tokens, dtype=torch.float64)
    try:
        mean = windowed_mean((after - before) * tokens, tokens, None if pair.overlapping else SINGLE)
    except QuantError as error:
        raise QuantError(
            f"{what}, and that cannot be judged: {error}, or judge sizes alone with --sizes-only"
        ) from error
    verdict, reach = decide(mean, -math.inf, 0)
    reason = ""
    if verdict is Verdict.REGRESSION and mean.value - reach <= rounding:
        verdict, reason = (
            Verdict.INCONCLUSIVE,
            f", of which rounding may be {show(rounding)}, as the baseline moved too",
        )
    bound = f", worse by {show(mean.value + reach)} at most" if verdict is Verdict.INCONCLUSIVE else ""
    return Difference(
        name, verdict, f"{what}: {show(mean.value)} +- {show(reach).lstrip('+')}: {verdict.value}{bound}{reason}"
    )


def _as_percent(value: float) -> str:
    """Of a difference of mean losses, the change of the perplexity."""
    return f"{100 * (exp(value) - 1):+.4f} %"


def _as_nats(value: float) -> str:
    return f"{value:+.2e} nats"


def _shown(value: float | None, digits: str) -> str:
    return "not finite" if value is None else format(value, digits)


def footprint_check(old: Result, new: Result) -> Difference:
    """Exact: one byte more is a regression. Raises QuantError for a record without a footprint."""
    if old.footprint_bytes is None or new.footprint_bytes is None:
        raise QuantError(f"{old.scheme} has no footprint_bytes: measure it again")
    grown = new.footprint_bytes - old.footprint_bytes
    verdict = Verdict.REGRESSION if grown > 0 else Verdict.PASS
    sizes = f"footprint {old.footprint_bytes:,} -> {new.footprint_bytes:,} bytes"
    return Difference("footprint", verdict, f"{old.scheme}: {sizes}: {verdict.value}", changed=bool(grown))


def speed_check(old: Result, new: Result, max_slowdown: float) -> Difference:
    """Whether decoding lost more than max_slowdown, a fraction. Raises QuantError where it was not timed."""
    if not old.tokens_per_second or not new.tokens_per_second:
        raise QuantError(
            f"{old.scheme} has no decoding speed to hold to --max-slowdown: measure with --new-tokens 2 or more"
        )
    change = new.tokens_per_second / old.tokens_per_second - 1
    verdict = Verdict.REGRESSION if change < -max_slowdown else Verdict.PASS
    speeds = f"{old.tokens_per_second:.1f} -> {new.tokens_per_second:.1f} tokens/s, {100 * change:+.1f} %"
    text = f"{old.scheme}: decoding {speeds}, may lose {100 * max_slowdown:g} %: {verdict.value}"
    return Difference("speed", verdict, text)
