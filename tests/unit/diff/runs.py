"""Two runs to compare: `RUN`, and it with changes."""

import random
from dataclasses import replace
from typing import Any

from quant.diff import Diff
from quant.records import Comparison
from tests.unit.report.samples import COMPARISON, WINDOW_TOKENS

BASELINE, INT8 = COMPARISON.results[:2]
RUN = replace(COMPARISON, results=(BASELINE, INT8))
SOURCE = random.Random(7)
NOISE = [SOURCE.gauss(0, 1e-3) for _ in WINDOW_TOKENS]
"""Nats by which a window's mean differs between runs: independent, so that single windows are resampled."""


def with_result(index: int, run: Comparison = RUN, **changes: Any) -> Comparison:
    results = list(run.results)
    results[index] = replace(results[index], **changes)
    return replace(run, results=tuple(results))


def moved(by: float, noise: float = 1.0) -> Comparison:
    """`RUN` with w8a16 worse by so many nats, and some noise for each window."""
    assert INT8.window_losses is not None
    pairs = zip(INT8.window_losses, NOISE, strict=True)
    return with_result(1, window_losses=tuple(loss + by + noise * error for loss, error in pairs))


def verdicts(found: Diff) -> dict[str, list[tuple[str, str]]]:
    return {s.scheme: [(check.name, check.verdict.value) for check in s.checks] for s in found.schemes}
