"""How far a model's predictions are from a baseline's on the same tokens: KL divergence and top-1 agreement.

KL(baseline || model) = sum_v p(v) (log p(v) - log q(v)) in nats, in float64 from both models' logits as they came.
Storing the baseline's log-probabilities in 16 bit, as some tools do, gives the divergence a floor and a bias; here
KL(p, p) is exactly 0. Top-1 agreement compares the positions of the largest logits; ties go to the lowest token id on
both sides.

The baseline's logits are needed for every scheme. They are kept in memory where they fit `limit_bytes` (float32: 4
bytes x scored tokens x vocabulary), else recomputed by running the baseline beside each scheme, which takes its time
again and keeps it loaded.

Where several processes share the windows (`quant.evaluate.processes`), each keeps the logits of its share, and the
results per token come together in stream order.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.devices import device_names
from quant.evaluate.fingerprint import Fingerprint, take_fingerprint
from quant.evaluate.perplexity import window_losses
from quant.evaluate.processes import ALONE, Processes
from quant.evaluate.rows import by_rows
from quant.evaluate.windows import TokenWindows, evaluating, window_logits

LIMIT_BYTES = 4 << 30
"""What a baseline's logits may take in memory, where nobody says otherwise."""


def kl_divergence(baseline: Tensor, logits: Tensor) -> Tensor:
    """KL(softmax(baseline) || softmax(logits)) per row in nats.

    Args:
        baseline, logits: float [n, vocabulary]; finite.

    Returns:
        float64 [n]; exactly 0 for equal rows, otherwise non-negative up to float64 rounding (clamped at 0).
    """
    return by_rows(_kl_divergence, baseline, logits)


def _kl_divergence(baseline: Tensor, logits: Tensor) -> Tensor:
    log_p = baseline.double().log_softmax(dim=-1)
    log_q = logits.double().log_softmax(dim=-1)
    p = log_p.exp()
    # 0 log(0/q) counts 0 as usual: masked vocabulary entries have logits of -inf in both models.
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1).clamp_(min=0.0)


def top1_agreement(baseline: Tensor, logits: Tensor) -> Tensor:
    """bool [n]: whether both rows (float [n, vocabulary]) have their largest value at the same index, ties to the
    lowest.
    """
    # Of equal values argmax takes the first, which torch documents since 1.7.
    return baseline.argmax(dim=-1) == logits.argmax(dim=-1)


@dataclass(frozen=True, eq=False)
class Measurement:
    """Per-token results of one model, on the CPU, in stream order.

    losses: float64 [N - 1]; window_of_token: int64 [N - 1], which window scored each token; fingerprint: what it was
    measured on and with; kl: float64 [N - 1], top1: bool [N - 1] against the baseline, None for the baseline itself.
    """

    losses: Tensor
    window_of_token: Tensor
    fingerprint: Fingerprint
    kl: Tensor | None = None
    top1: Tensor | None = None


class Baseline:
    """The model that others are compared with: its losses, and its logits, kept or recomputed.

    Args:
        model: the unquantized model; only used again (and kept alive) where its logits do not fit.
        windows: what to measure on; batch_size: windows per call.
        limit_bytes: memory for the logits, of all processes on a machine.
        advance: called with the number of tokens scored.
        processes: those that share the windows; each makes a baseline of its own model.

    Raises:
        QuantError: as `compare`, in every process alike.
    """

    def __init__(
        self,
        model: Any,
        windows: TokenWindows,
        batch_size: int = 8,
        limit_bytes: int = LIMIT_BYTES,
        advance: Callable[[int], object] = lambda tokens: None,
        processes: Processes = ALONE,
    ) -> None:
        self.windows, self.batch_size, self._processes = windows, batch_size, processes
        self._share = processes.share(windows.batch_count(batch_size))
        # The dtype of the float model stands for all that are compared with it.
        self._dtype = next(model.parameters()).dtype
        self._kept: list[Tensor] | None = None
        (losses,) = self._gathered(lambda: self._first_run(model, limit_bytes // processes.local_size, advance))
        self.measurement = self._measurement(model, losses)
        self._model: Any = None if self._kept is not None else model

    def _first_run(self, model: Any, limit_bytes: int, advance: Callable[[int], object]) -> tuple[Tensor]:
        """The losses of this process's share; its logits are kept where they fit."""
        losses, kept, size = [], [], 0
        with evaluating(model):
            for index, logits, targets in window_logits(model, self.windows, self.batch_size, advance, self._share):
                losses.append(window_losses(self.windows, index, logits, targets))
                size += logits.numel() * logits.element_size()
                if size <= limit_bytes:
                    kept.append(logits.cpu().clone())
                else:
                    kept.clear()
        self._kept = kept if size <= limit_bytes else None
        return (_tokens(losses, torch.float64),)

    def _gathered(self, run: Callable[[], tuple[Tensor, ...]]) -> list[Tensor]:
        """What `run` gives for the tokens of each process's share, for all tokens, in stream order."""
        return [torch.cat(parts) for parts in zip(*self._processes.gather(run), strict=True)]

    def _measurement(self, model: Any, losses: Tensor) -> Measurement:
        fingerprint = take_fingerprint(self.windows, self._dtype, self.batch_size, device_names(model))
        return Measurement(losses, self.windows.window_of_token, fingerprint)

    @property
    def losses(self) -> Tensor:
        """float64 [N - 1]: the baseline's losses in nats."""
        return self.measurement.losses

    @property
    def keeps_model(self) -> bool:
        """Whether the logits did not fit, so that the model runs again for each comparison."""
        return self._model is not None

    def _logits(self) -> Iterator[Tensor]:
        if self._kept is not None:
            yield from self._kept
        else:
            for _, logits, _ in window_logits(self._model, self.windows, self.batch_size, share=self._share):
                yield logits

    def compare(self, model: Any, advance: Callable[[int], object] = lambda tokens: None) -> Measurement:
        """Run `model` over the same windows.

        Raises:
            QuantError: NaN or infinite logits, another vocabulary, or a window that does not fit, in any process.
        """
        losses, kl, top1 = self._gathered(lambda: self._compared(model, advance))
        return replace(self._measurement(model, losses), kl=kl, top1=top1)

    def _compared(self, model: Any, advance: Callable[[int], object]) -> tuple[Tensor, Tensor, Tensor]:
        """Losses, divergences and agreements of this process's share."""
        losses, kls, agreements = [], [], []
        with evaluating(model), evaluating(self._model) if self.keeps_model else nullcontext():
            scored = window_logits(model, self.windows, self.batch_size, advance, self._share)
            for (index, logits, targets), baseline in zip(scored, self._logits(), strict=True):
                if logits.shape != baseline.shape:
                    raise QuantError(
                        f"the model gives {logits.shape[-1]} logits for a token and the baseline {baseline.shape[-1]}: "
                        "compare models of one vocabulary"
                    )
                losses.append(window_losses(self.windows, index, logits, targets))
                kls.append(kl_divergence(baseline.to(logits.device), logits).cpu())
                agreements.append(top1_agreement(baseline.to(logits.device), logits).cpu())
        return _tokens(losses, torch.float64), _tokens(kls, torch.float64), _tokens(agreements, torch.bool)


def _tokens(windows: list[Tensor], dtype: torch.dtype) -> Tensor:
    """The results of some windows, none perhaps, one after the other: `dtype` [n]."""
    return torch.cat([torch.empty(0, dtype=dtype), *windows])
