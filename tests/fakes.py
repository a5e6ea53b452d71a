"""Fake language models whose losses are known in advance, stub tokenizers that add BOS or not, and by how much float64
may differ from the loops here.

The models are called as the package calls a real one, `model(input_ids=..., use_cache=False).logits`, and compute with
nothing but indexing and integers, so a row's logits have the same bits whatever batch it is in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from tests.strategies import normal

CERTAIN = 1e4
"""A gap between logits that float64 cannot see past: exp(-CERTAIN) is 0, so the larger one has probability exactly 1.
"""


@dataclass(frozen=True)
class Output:
    """What a model returns."""

    logits: Tensor


class FakeLM(nn.Module):
    """Base of the fakes: a vocabulary, a number of positions (None: any) and one parameter, which says on which device
    it is.
    """

    def __init__(self, vocab_size: int, positions: int | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocab_size, max_position_embeddings=positions)
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids: Tensor, use_cache: bool) -> Output:
        """logits [batch, length, vocabulary] of `input_ids` int64 [batch, length]."""
        assert use_cache is False
        assert input_ids.dtype == torch.int64
        return Output(self.predict(input_ids))

    def predict(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def certain(self, tokens: Tensor) -> Tensor:
        """Logits that give each of `tokens` probability 1."""
        return torch.nn.functional.one_hot(tokens, self.config.vocab_size).float() * CERTAIN


class Uniform(FakeLM):
    """Every token is equally likely: perplexity is the vocabulary's size."""

    def predict(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, self.config.vocab_size)


class Successor(FakeLM):
    """After t comes t + 1 modulo the vocabulary, for certain."""

    def predict(self, ids: Tensor) -> Tensor:
        return self.certain((ids + 1) % self.config.vocab_size)


class BosOnce(FakeLM):
    """A successor model that is sure only in rows that begin with BOS and hold no second one; in other rows it is sure
    of BOS.
    """

    def __init__(self, vocab_size: int, bos_id: int) -> None:
        super().__init__(vocab_size)
        self.bos_id = bos_id

    def predict(self, ids: Tensor) -> Tensor:
        is_bos = ids == self.bos_id
        right = is_bos[:, :1] & (is_bos.sum(dim=1, keepdim=True) == 1)
        return self.certain(torch.where(right, (ids + 1) % self.config.vocab_size, self.bos_id))


class Bigram(FakeLM):
    """The logits after token t are row t of `table`, in the table's dtype."""

    def __init__(self, table: Tensor, positions: int | None = None) -> None:
        super().__init__(table.shape[1], positions)
        self.register_buffer("table", table)

    def predict(self, ids: Tensor) -> Tensor:
        return self.get_buffer("table")[ids]


class Context(Bigram):
    """The logits depend on all tokens of the row so far: row (1 t0 + 2 t1 + 3 t2 + ...) modulo the rows of `table`."""

    def predict(self, ids: Tensor) -> Tensor:
        weights = torch.arange(1, ids.shape[1] + 1)
        return super().predict((ids * weights).cumsum(dim=1) % len(self.get_buffer("table")))


class Probe(FakeLM):
    """Its "logits" tell what it was given: [token, tokens of the row so far, first token of the row]; `shapes` records
    its inputs.
    """

    def __init__(self) -> None:
        super().__init__(vocab_size=1 << 30)
        self.shapes: list[tuple[int, int]] = []
        self.modes: list[tuple[bool, bool, bool]] = []

    def predict(self, ids: Tensor) -> Tensor:
        batch, length = ids.shape
        self.shapes.append((batch, length))
        self.modes.append((self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        seen = torch.arange(1, length + 1).expand(batch, length)
        return torch.stack([ids, seen, ids[:, :1].expand(batch, length)], dim=-1)


class StubTokenizer:
    """One token per byte, from 3 on; puts `bos_token_id` first if it `adds_bos` and special tokens are asked for."""

    def __init__(self, bos_token_id: int | None = 1, adds_bos: bool = False) -> None:
        self.bos_token_id, self.adds_bos = bos_token_id, adds_bos

    def __call__(self, text: str, add_special_tokens: bool = True, **_: object) -> dict[str, list[int]]:
        ids = [3 + byte for byte in text.encode()]
        if add_special_tokens and self.adds_bos and self.bos_token_id is not None:
            ids = [self.bos_token_id, *ids]
        return {"input_ids": ids}


def table(rows: int, vocab_size: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    """Random float32 logits [rows, vocab_size] from their own stream."""
    return normal((rows, vocab_size), seed, spread)


def stream(length: int, vocab_size: int, seed: int = 1) -> Tensor:
    """Random token ids int64 [length] from their own stream."""
    return torch.randint(vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


def log_sum_exp(row: list[float]) -> float:
    """log(sum(exp(row))) in float64, one term at a time."""
    highest = max(row)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in row))


def expected_kl(p: list[float], q: list[float]) -> float:
    """KL(softmax(p) || softmax(q)): sum p (log p - log q) in float64, one term at a time."""
    log_p, log_q = log_sum_exp(p), log_sum_exp(q)
    return math.fsum(math.exp(a - log_p) * ((a - log_p) - (b - log_q)) for a, b in zip(p, q, strict=True))


ROUNDING = 2.0**-53
"""Largest relative error of one rounding to float64."""


def loss_tolerance(logits: Tensor) -> float:
    """By how much two float64 computations of a log-probability may differ, at most, for rows like `logits` [n, v].

    With logits up to M in magnitude: x - max is off by one rounding of at most 2 M, which exp turns into a relative
    error, and exp adds two roundings; a sum of v positive terms in whatever order adds v (Higham, Accuracy and
    Stability of Numerical Algorithms, 4.2); log makes that absolute and adds two roundings of log v; adding the maximum
    and subtracting the logit round two numbers below 2 M + log v. That is 8 M + 4 log v + v + 2 roundings, for each of
    the two computations.
    """
    magnitude = float(logits[logits.isfinite()].abs().max())
    count = logits.shape[-1]
    return 2 * (8 * magnitude + 4 * math.log(count) + count + 2) * ROUNDING


def kl_tolerance(p: Tensor, q: Tensor) -> float:
    """By how much two float64 computations of KL(softmax(p) || softmax(q)) may differ, at most, for any row [n, v].

    A term is p (log p - log q). Both logarithms are off as in `loss_tolerance`, and p, being exp(log p), by as much of
    itself as log p and two roundings; difference, product and a sum of v terms in whatever order add v + 2 roundings of
    the terms' magnitudes.
    """
    log_p, log_q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    terms = torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_q), 0.0).abs().sum(-1).max()
    rounding_terms = loss_tolerance(p) + 2 * (p.shape[-1] + 4) * ROUNDING
    return loss_tolerance(p) + loss_tolerance(q) + float(terms) * rounding_terms


def mean_tolerance(values: Sequence[float], each: float = 0.0) -> float:
    """By how much the mean of `values`, each off by at most `each`, may be off: a sum of n terms in whatever order is
    off by at most n roundings of the sum of their magnitudes, and the division by one more.
    """
    return each + (len(values) + 1) * ROUNDING * math.fsum(map(abs, values)) / len(values)


def exp_tolerance(each: float) -> float:
    """By how much of itself exp(x) may be off where x is off by at most `each`: exp adds two roundings, and so it does
    for the value to compare with.
    """
    return math.expm1(each + 4 * ROUNDING)
