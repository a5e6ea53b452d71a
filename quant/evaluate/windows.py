"""Cut a token stream into windows and run a model over them, so that every token from the second on is scored exactly
once.

Window i starts at token i * stride and feeds the model up to `window` tokens. Each fed token predicts its successor,
so a window reaches one token further than it feeds. The first window scores all it predicts, later ones only what no
window scored before, which leaves each of their tokens at least `window - stride` tokens of context. With stride ==
window (the default) windows are disjoint. All windows are full but the last, which is run by itself: there is no
padding and nothing to mask.

BOS rule: with `bos_id` every window is preceded by that token, which counts towards `window` and is never scored;
without, none is. "Only the first window" is not offered: models that need BOS lose much in every other window.

The first token of the stream is never scored, with or without BOS, so the count is N - 1 whatever the settings.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from quant.errors import QuantError
from quant.evaluate.devices import input_device
from quant.evaluate.limits import check_positions, check_vocabulary


@dataclass(frozen=True, eq=False)
class TokenWindows:
    """A token stream and how to cut it.

    Args:
        ids: int64 [N], N >= 2.
        window: tokens fed at once, BOS included.
        stride: distance of window starts, 1 to `window` (less the BOS); default the largest.
        bos_id: token put before every window, or None.

    Raises:
        QuantError: fewer than two tokens, or a window or stride out of range.
    """

    ids: Tensor
    window: int
    stride: int | None = None
    bos_id: int | None = None

    def __post_init__(self) -> None:
        if self.ids.dim() != 1 or self.ids.dtype != torch.int64:
            raise QuantError(f"token ids must be int64 [N], got {self.ids.dtype} {list(self.ids.shape)}")
        if len(self.ids) < 2:
            raise QuantError(f"the text has {len(self.ids)} tokens, perplexity needs at least two: pass a longer text")
        if self._content < 1:
            raise QuantError(f"window {self.window} leaves no room for a token, use at least {1 + self._prefix}")
        if self.stride is not None and not 1 <= self.stride <= self._content:
            raise QuantError(f"stride {self.stride} is out of range, use 1 to {self._content} for window {self.window}")

    @property
    def _prefix(self) -> int:
        return 0 if self.bos_id is None else 1

    @property
    def _content(self) -> int:
        return self.window - self._prefix

    @property
    def scored(self) -> int:
        """Number of scored tokens, N - 1."""
        return len(self.ids) - 1

    @cached_property
    def spans(self) -> list[tuple[int, int, int]]:
        """(start, first, end) per window: tokens start..end-1 are fed, tokens first..end (inclusive) are scored."""
        stride = self.stride or self._content
        spans, first, start = [], 1, 0
        while first <= self.scored:
            end = min(start + self._content, self.scored)
            spans.append((start, first, end))
            first, start = end + 1, start + stride
        return spans

    def halves(self) -> tuple["TokenWindows", "TokenWindows"]:
        """The first half of the windows and the rest: each token is scored in one of the two, under the same settings.
        The first window of the rest is fed no token that was scored before but its first.

        Raises:
            QuantError: a single window.
        """
        if len(self.spans) < 2:
            raise QuantError("a text of one window has no halves: pass a longer text or a smaller window")
        first = self.spans[len(self.spans) // 2][1]
        before, after = self.ids[:first], self.ids[first - 1 :]
        return replace(self, ids=before), replace(self, ids=after)

    @cached_property
    def window_of_token(self) -> Tensor:
        """int64 [N - 1]: index of the window that scores each token."""
        counts = torch.tensor([end - first + 1 for _, first, end in self.spans])
        return torch.repeat_interleave(torch.arange(len(counts)), counts)

    @cached_property
    def position_of_token(self) -> Tensor:
        """int64 [N - 1]: how many tokens of the text, without BOS, the model is fed before it predicts each; from 1."""
        return torch.cat([torch.arange(first - start, end + 1 - start) for start, first, end in self.spans])

    @cached_property
    def sha256(self) -> str:
        """Of the token ids as little-endian int64."""
        return hashlib.sha256(self.ids.numpy().astype("<i8").tobytes()).hexdigest()

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, list[tuple[int, int, int]]]]:
        """Yield (input ids int64 [b, length], their spans), windows of equal length together, in order."""
        spans = self.spans
        position = 0
        while position < len(spans):
            length = spans[position][2] - spans[position][0]
            group = [s for s in spans[position : position + batch_size] if s[2] - s[0] == length]
            rows = [self.ids[start:end] for start, _, end in group]
            inputs = torch.stack(rows)
            if self.bos_id is not None:
                inputs = torch.cat([inputs.new_full((len(rows), 1), self.bos_id), inputs], dim=1)
            yield inputs, group
            position += len(group)

    def batch_count(self, batch_size: int) -> int:
        """How many `batches` there are."""
        return sum(1 for _ in self.batches(batch_size))

    def scored_in(self, batch_size: int, share: range) -> int:
        """Tokens that the `batches` numbered `share` score."""
        groups = (spans for number, (_, spans) in enumerate(self.batches(batch_size)) if number in share)
        return sum(end + 1 - first for spans in groups for _, first, end in spans)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the training flag of every module is restored afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def window_logits(
    model: Any,
    windows: TokenWindows,
    batch_size: int,
    advance: Callable[[int], object] = lambda tokens: None,
    share: range | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Run `model` over the windows; yield (index, logits, targets) of the scored tokens of one window at a time, in
    stream order.

    Args:
        model: called as `model(input_ids=..., use_cache=False).logits`; put it in `evaluating` first.
        batch_size: windows per call.
        advance: called with the number of tokens scored, for a progress bar.
        share: numbers of the batches to run, None for all: one call has the same shape whoever makes it.

    Yields:
        index: of the window; logits: the model's dtype, [n, vocabulary], where the model takes its input; targets:
            int64 [n] there.

    Raises:
        QuantError: the model has no room for the window (position table) or its vocabulary is too small for the ids.
    """
    device = input_device(model)
    config = getattr(model, "config", None)
    check_positions(config, windows.window, "window")
    check_vocabulary(config, windows.ids, windows.bos_id)
    index = 0
    for number, (inputs, spans) in enumerate(windows.batches(batch_size)):
        if share is None or number in share:
            logits = model(input_ids=inputs.to(device), use_cache=False).logits
            for row, (start, first, end) in enumerate(spans):
                begin = first - 1 - start + windows._prefix
                yield index + row, logits[row, begin:], windows.ids[first : end + 1].to(device)
                advance(end + 1 - first)
        index += len(spans)
