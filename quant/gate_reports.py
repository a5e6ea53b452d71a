"""What the pytest plugin tells of thresholds: their power, and what recording changed. Imports no torch, no pytest."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quant.evaluate.thresholds import Threshold

POOR_POWER = 0.1
"""A perplexity margin above this is warned of. `quant.evaluate.budgets` takes a change of the perplexity by a tenth for
nothing that quantizing does: a check that misses it is only good for models that are broken. The margin falls with the
root of the tokens, faster below 64 windows, and is 0.1 to 1.8 % on the 16,384 tokens of docs/accuracy-gates.md.
"""


class PoorPowerWarning(UserWarning):
    """A gate passed that misses worsenings of the perplexity ratio above `POOR_POWER`: it takes more text."""


def power_of(threshold: "Threshold") -> str:
    """What the checks catch, and at which rate of false alarms."""
    rate = threshold.provenance.get("false_alarm_rate")
    if threshold.kl:
        kl = f"{100 * threshold.kl_margin / threshold.kl:.1f} % of the KL divergence"
    else:
        kl = f"{threshold.kl_margin:.1e} nats of the KL divergence"
    ratio = f"{100 * threshold.perplexity_margin:.3f} % of the perplexity ratio"
    return f"a worsening of {ratio}, or {kl}, is caught at a false-alarm rate of {rate}"


def recorded_lines(scheme: str, old: "Threshold | str", new: "Threshold") -> list[str]:
    """What recording `scheme` changed, and the power of what it wrote; old: what was there, or why that is unknown."""
    figures = f"perplexity ratio {new.perplexity_ratio:.6f}, KL divergence {new.kl:.4e} nats"
    if isinstance(old, str):
        return [f"{scheme}: {old}: {figures}", f"  {power_of(new)}"]
    ratio = f"perplexity ratio {old.perplexity_ratio:.6f} -> {new.perplexity_ratio:.6f}"
    return [f"{scheme}: {ratio}, KL divergence {old.kl:.4e} -> {new.kl:.4e} nats", f"  {power_of(new)}"]


def warn_of_poor_power(scheme: str, threshold: "Threshold") -> None:
    """A `PoorPowerWarning` where the perplexity margin is above `POOR_POWER`, shown where the caller is called."""
    if threshold.perplexity_margin > POOR_POWER:
        tokens = int(threshold.windows.tokens.sum())
        text = f"{scheme}: of {tokens:,} tokens, only {power_of(threshold)}: hold it to more text, and record it anew"
        warnings.warn(PoorPowerWarning(text), stacklevel=3)
