"""Random series of known autocorrelation, each from a seed of its own: they stand for the means of a text's windows."""

import torch
from torch import Tensor

from tests.strategies import generator

START = 50
"""Values that are left out, after which a series no longer knows that it began at 0."""


def white_noise(count: int, seed: int) -> Tensor:
    """float64 [count], standard normal."""
    return torch.randn(count, generator=generator(seed), dtype=torch.float64)


def autoregressive(count: int, phi: float, seed: int) -> Tensor:
    """float64 [count], mean 0: x[i] = phi x[i-1] + standard normal noise."""
    values, last = [], 0.0
    for step in white_noise(count + START, seed).tolist():
        last = phi * last + step
        values.append(last)
    return torch.tensor(values[START:], dtype=torch.float64)
