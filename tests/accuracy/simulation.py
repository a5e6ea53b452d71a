"""Gates on made-up windows, many times: how often is an equally good model not passed, and a worse one passed?

Two quantizers' figures per window are what the text does to both, which may go on from window to window, plus errors of
their own. The first is recorded and its margin derived, the second held to it.
"""

from dataclasses import dataclass

import numpy as np
import torch

from quant.evaluate.gates import Verdict, decide
from quant.evaluate.recording import SINGLE, margin
from quant.evaluate.statistics import windowed_mean


@dataclass(frozen=True)
class Rates:
    """Of the equally good model: how often each verdict; of the one worse (or better) by the margin: how often it
    passes.
    """

    runs: int
    regression: float
    inconclusive: float
    missed: float

    @property
    def false_alarms(self) -> float:
        return self.regression + self.inconclusive


def errors(generator: np.random.Generator, windows: int, phi: float) -> torch.Tensor:
    """float64 [windows]: Student t of 6 degrees of freedom (tails heavier than a mean over a window's tokens has),
    autoregressive with `phi`.
    """
    noise = generator.standard_t(6, windows + 20)
    for index in range(1, len(noise)):
        noise[index] += phi * noise[index - 1]
    return torch.from_numpy(noise[20:].copy())


def simulate(runs: int, seed: int, windows: int = 64, phi: float = 0.0, shared: float = 0.0) -> Rates:
    """shared: variance that the text gives to both, relative to their own; phi: its autocorrelation."""
    generator = np.random.default_rng(seed)
    tokens = torch.full((windows,), 256.0, dtype=torch.float64)
    seen = {Verdict.REGRESSION: 0, Verdict.INCONCLUSIVE: 0, Verdict.PASS: 0}
    missed = 0
    for run in range(runs):
        text = shared**0.5 * errors(generator, windows, phi)
        then, now = (text + errors(generator, windows, 0.0) for _ in range(2))
        limit = margin(windowed_mean(then * tokens, tokens, SINGLE))
        difference = windowed_mean((now - then) * tokens, tokens, SINGLE)
        seen[decide(difference, -limit, limit)[0]] += 1
        sign = 1 if run % 2 else -1
        worse = windowed_mean((now - then + sign * limit) * tokens, tokens, SINGLE)
        missed += decide(worse, -limit, limit)[0] is Verdict.PASS
    return Rates(runs, seen[Verdict.REGRESSION] / runs, seen[Verdict.INCONCLUSIVE] / runs, missed / runs)
