"""Negative log-likelihood per token, and perplexity = exp(sum over tokens / number of tokens).

Losses are computed in float64 from the model's logits, a few rows at a time, and summed over tokens, never averaged
over windows or chunks, so a short last window weighs what it holds. The shift between inputs and targets is made once,
in `quant.evaluate.windows`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quant.errors import BrokenLogitsError, QuantError
from quant.evaluate.rows import by_rows
from quant.evaluate.statistics import exp
from quant.evaluate.windows import TokenWindows, evaluating, window_logits


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target] in nats.

    Args:
        logits: any float dtype, [n, vocabulary]; targets: int64 [n].

    Returns:
        float64 [n]; +inf where a target has probability 0.

    Raises:
        BrokenLogitsError: NaN, or +inf, among the logits.
    """
    return by_rows(_token_losses, logits, targets)


def _token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    logits = logits.double()
    normaliser = logits.logsumexp(dim=-1)
    if not bool(torch.isfinite(normaliser).all()):
        raise BrokenLogitsError("the model's logits hold NaN or infinite values: its weights or its dtype are broken")
    return normaliser - logits.gather(-1, targets[:, None])[:, 0]


def perplexity_of(losses: Tensor) -> float:
    """exp(mean) of float64 losses [n] in nats; inf where that overflows.

    Raises:
        QuantError: no losses.
    """
    if losses.numel() == 0:
        raise QuantError("no scored tokens: perplexity is undefined")
    return exp(float(losses.double().sum()) / losses.numel())


def stream_losses(
    model: Any, windows: TokenWindows, batch_size: int = 8, advance: Callable[[int], object] = lambda tokens: None
) -> Tensor:
    """Losses of every token from the second on: float64 [N - 1] on the CPU. The model is unchanged afterwards.

    Raises:
        QuantError: NaN or infinite logits, naming the window; or the windows do not fit the model.
    """
    with evaluating(model):
        scored = window_logits(model, windows, batch_size, advance)
        return torch.cat([window_losses(windows, *window) for window in scored])


def window_losses(windows: TokenWindows, index: int, logits: Tensor, targets: Tensor) -> Tensor:
    """`token_losses` of window `index` on the CPU; an error names the window."""
    try:
        return token_losses(logits, targets).cpu()
    except BrokenLogitsError as error:
        raise BrokenLogitsError(f"window {index} (from token {windows.spans[index][0]}): {error}") from error


def perplexity(model: Any, windows: TokenWindows, batch_size: int = 8) -> float:
    """Perplexity of `model` on `windows`; see `stream_losses`."""
    return perplexity_of(stream_losses(model, windows, batch_size))
