"""Losses and perplexity against loops in float64, and where they are known without computing: 1, the vocabulary's size,
infinity.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.perplexity import perplexity, stream_losses
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import bos_token, tokenize
from tests.fakes import (
    Bigram,
    BosOnce,
    Context,
    FakeLM,
    Probe,
    StubTokenizer,
    Successor,
    Uniform,
    exp_tolerance,
    log_sum_exp,
    loss_tolerance,
    mean_tolerance,
    stream,
    table,
)

VOCAB = 7


def expected_losses(model: Context, ids: list[int], window: int, stride: int, bos_id: int | None = None) -> list[float]:
    """Token by token: the first window that reaches token t gives its context; all of the row before t is fed."""
    rows: list[list[float]] = model.get_buffer("table").double().tolist()
    prefix = [] if bos_id is None else [bos_id]
    losses = []
    for t in range(1, len(ids)):
        index = max(0, math.ceil((t - (window - len(prefix))) / stride))
        fed = prefix + ids[index * stride : t]
        row = rows[sum((place + 1) * token for place, token in enumerate(fed)) % len(rows)]
        losses.append(log_sum_exp(row) - row[ids[t]])
    return losses


@pytest.mark.parametrize("bos_id", [None, 0, 4], ids=["no BOS", "BOS 0", "BOS 4"])
@pytest.mark.parametrize("length", [2, 3, 13, 40])
def test_losses_equal_the_loops_for_every_window_and_stride(length: int, bos_id: int | None) -> None:
    model = Context(table(11, VOCAB))
    tolerance = loss_tolerance(table(11, VOCAB))
    ids = stream(length, VOCAB)
    for window in (2, 3, 5, 12, 13, 39, 40, 64):
        for stride in {1, 2, window // 2, window - 1, window} - {0}:
            if stride > window - (bos_id is not None):
                continue
            losses = stream_losses(model, TokenWindows(ids, window, stride, bos_id))
            assert losses.dtype == torch.float64
            expected = expected_losses(model, ids.tolist(), window, stride, bos_id)
            assert losses.tolist() == pytest.approx(expected, abs=tolerance)


def test_stride_equal_to_the_window_is_disjoint_chunks() -> None:
    model = Context(table(11, VOCAB))
    ids = stream(41, VOCAB)
    rows: list[list[float]] = model.get_buffer("table").double().tolist()
    expected = []
    for start in range(0, 40, 6):
        state = 0
        for place, position in enumerate(range(start, min(start + 6, 40))):
            state += (place + 1) * int(ids[position])
            row = rows[state % len(rows)]
            expected.append(log_sum_exp(row) - row[int(ids[position + 1])])
    assert stream_losses(model, TokenWindows(ids, 6)).tolist() == pytest.approx(
        expected, abs=loss_tolerance(model.get_buffer("table"))
    )


def test_the_successor_model_has_perplexity_exactly_one() -> None:
    """A shift too many or too few, or a row whose last target is the next row's first, costs 10^4 nats a token."""
    ids = torch.arange(40) % VOCAB
    for window, stride, batch_size in ((5, 5, 1), (5, 5, 3), (6, 2, 8), (100, 100, 2), (1, 1, 4)):
        assert perplexity(Successor(VOCAB), TokenWindows(ids, window, stride), batch_size) == 1.0


def test_a_shifted_text_is_as_bad_as_can_be() -> None:
    assert perplexity(Successor(VOCAB), TokenWindows(torch.arange(0, 80, 2) % VOCAB, 5)) == math.inf


@pytest.mark.parametrize("vocab_size", [1, 2, 512, 32064])
def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(vocab_size: int) -> None:
    windows = TokenWindows(stream(9, vocab_size), 4, 2)
    tolerance = mean_tolerance([math.log(vocab_size)] * 8, loss_tolerance(torch.zeros(1, vocab_size)))
    assert perplexity(Uniform(vocab_size), windows) == pytest.approx(vocab_size, rel=exp_tolerance(tolerance))


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("stride", [None, 2])
def test_with_bos_every_window_has_it_exactly_once(adds_bos: bool, stride: int | None) -> None:
    """The text's bytes are consecutive; the stub tokenizer may add BOS by itself, the windows must not add a second
    one.
    """
    tokenizer = StubTokenizer(1, adds_bos)
    ids = tokenize(tokenizer, "".join(map(chr, range(32, 120))))
    model = BosOnce(vocab_size=300, bos_id=1)
    assert perplexity(model, TokenWindows(ids, 6, stride, bos_token(tokenizer, "always"))) == 1.0
    assert perplexity(model, TokenWindows(ids, 6, stride, bos_token(tokenizer, "never"))) == math.inf
    assert (perplexity(model, TokenWindows(ids, 6, stride, bos_token(tokenizer, "auto"))) == 1.0) is adds_bos


def test_a_short_last_window_weighs_as_many_tokens_as_it_holds() -> None:
    """Windows of 10, 10 and 3 tokens. Token 2 costs 50 nats, and only the last window holds it; the other tokens cost
    log 2.

    The mean is 7.1 nats a token; a mean of window means would be 17.1.
    """
    rows = torch.tensor([[0.0, 0.0, -50.0]] * 3)
    ids = torch.tensor([0, 1] * 10 + [1, 2, 2, 2])
    cheap = math.log(2 + math.exp(-50))
    expected = [cheap] * 20 + [cheap + 50] * 3
    tolerance = exp_tolerance(mean_tolerance(expected, loss_tolerance(rows)))
    assert perplexity(Bigram(rows), TokenWindows(ids, 10)) == pytest.approx(
        math.exp(math.fsum(expected) / 23), rel=tolerance
    )


@pytest.mark.parametrize("bos_id", [None, 0])
def test_batch_size_changes_no_bit(bos_id: int | None) -> None:
    windows = TokenWindows(stream(100, VOCAB), 8, 3, bos_id)
    model = Context(table(11, VOCAB))
    single = stream_losses(model, windows, batch_size=1)
    for batch_size in (2, 3, 8, 1000):
        assert torch.equal(stream_losses(model, windows, batch_size), single)


class Recorded(Probe):
    """Records what it is given, and finds every token equally likely."""

    def predict(self, ids: Tensor) -> Tensor:
        super().predict(ids)
        return torch.zeros(*ids.shape, VOCAB)


@pytest.mark.parametrize("measure", [perplexity, stream_losses])
def test_as_many_windows_as_asked_for_are_fed_at_once_or_eight(measure: Callable[..., object]) -> None:
    windows = TokenWindows(stream(21, VOCAB), 2)
    default, three = Recorded(), Recorded()
    measure(default, windows)
    measure(three, windows, batch_size=3)
    assert default.shapes == [(8, 2), (2, 2)]
    assert three.shapes == [(3, 2), (3, 2), (3, 2), (1, 2)]


def test_progress_counts_the_scored_tokens_of_each_window() -> None:
    advanced: list[int] = []
    stream_losses(Uniform(VOCAB), TokenWindows(stream(21, VOCAB), 6, 5), advance=advanced.append)
    assert advanced == [6, 5, 5, 4]


def test_the_model_runs_in_evaluation_mode_and_is_left_as_it_was() -> None:
    model = Recorded().train()
    stream_losses(model, TokenWindows(stream(20, VOCAB), 6))
    assert model.modes == [(False, False, True)] * len(model.modes)
    assert model.modes
    assert model.training


def test_the_model_is_left_as_it_was_after_an_error() -> None:
    model = Bigram(torch.full((VOCAB, VOCAB), math.nan)).train()
    with pytest.raises(QuantError):
        stream_losses(model, TokenWindows(stream(20, VOCAB), 6))
    assert model.training
    assert not torch.is_inference_mode_enabled()


class Echo(FakeLM):
    """Certain that the token `lag` places back comes again, and clueless in a row's first places."""

    def __init__(self, vocab_size: int, lag: int) -> None:
        super().__init__(vocab_size)
        self.lag = lag

    def predict(self, ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, self.config.vocab_size)
        logits[:, self.lag - 1 :] = self.certain(ids)[:, : ids.shape[1] - self.lag + 1]
        return logits


@pytest.mark.parametrize(("stride", "clueless"), [(8, 6 * 3), (6, 3 + 7), (5, 3), (1, 3)])
def test_overlap_gives_the_context_that_a_model_needs(stride: int, clueless: int) -> None:
    """48 tokens of period 4 are scored in windows of 8. In each row the first three predictions are clueless where they
    are scored: all three in the six disjoint windows; with stride 6 the first window's three and the first one of the
    seven others (their first scored token has 8 - 6 + 1 tokens of context); with stride 5 or less only the first
    window's.
    """
    ids = stream(4, VOCAB).repeat(13)[:49]
    losses = [math.log(VOCAB)] * clueless + [0.0] * (48 - clueless)
    tolerance = exp_tolerance(mean_tolerance(losses, loss_tolerance(torch.zeros(1, VOCAB))))
    assert perplexity(Echo(VOCAB, lag=4), TokenWindows(ids, 8, stride)) == pytest.approx(
        VOCAB ** (clueless / 48), rel=tolerance
    )


class BrokenAt(FakeLM):
    """Uniform, but `value` among the logits after `token`."""

    def __init__(self, token: int, value: float) -> None:
        super().__init__(100)
        self.token, self.value = token, value

    def predict(self, ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, 100)
        logits[..., 3][ids == self.token] = self.value
        return logits


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_nan_or_infinite_logits_are_an_error_that_names_the_window(value: float, batch_size: int) -> None:
    """Token 14 is fed in the windows that start at 8, 10, 12 and 14, but scores token 15 only in the one from 8."""
    windows = TokenWindows(torch.arange(50), 8, 2)
    with pytest.raises(QuantError, match=r"window 4 \(from token 8\).*NaN or infinite"):
        stream_losses(BrokenAt(14, value), windows, batch_size)


def test_a_token_of_probability_zero_costs_infinity() -> None:
    windows = TokenWindows(torch.tensor([14, 3, 5]), 8)
    assert stream_losses(BrokenAt(14, -math.inf), windows).tolist() == [math.inf, pytest.approx(math.log(100))]
    assert perplexity(BrokenAt(14, -math.inf), windows) == math.inf
