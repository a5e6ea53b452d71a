"""Windows: every token from the second on is scored once, with the context that was promised and by the logits before
it.
"""

import hashlib
import itertools
import struct

import pytest
import torch
from torch import Tensor, nn

from quant.errors import QuantError
from quant.evaluate.windows import TokenWindows, evaluating, window_logits
from quant.integrations.transformers import bos_token, tokenize
from tests.fakes import Bigram, Probe, StubTokenizer, Uniform, stream, table

BOS = 1_000_000
BATCH_SIZES = itertools.cycle((1, 2, 3, 8))


def scored(windows: TokenWindows, batch_size: int) -> Tensor:
    """int64 [n, 4]: target, token fed just before it, tokens fed up to there, first token fed; in the order they were
    yielded.
    """
    probe = Probe()
    rows = []
    for _, logits, targets in window_logits(probe, windows, batch_size):
        assert logits.shape == (len(targets), 3)
        rows.append(torch.cat([targets[:, None], logits], dim=1))
    assert all(length <= windows.window for _, length in probe.shapes)
    return torch.cat(rows)


def check_spans(windows: TokenWindows, stride: int, content: int) -> None:
    """(start, first, end): tokens start..end-1 are fed, tokens first..end are scored."""
    positions = [position for _, first, end in windows.spans for position in range(first, end + 1)]
    assert positions == list(range(1, len(windows.ids))), "not each position once, in order"
    for index, (start, first, end) in enumerate(windows.spans):
        assert start == index * stride
        assert end - start <= content
        assert first - start >= (content - stride + 1 if index else 1), "less context than promised"
        assert end - start == content or end == len(windows.ids) - 1, "a short window before the last"


def check_run(windows: TokenWindows, stride: int, content: int) -> None:
    """The ids are 0, 1, 2, ..., so a token is its own position. The batch size goes round."""
    target, fed, seen, first = scored(windows, next(BATCH_SIZES)).T
    everything = torch.arange(1, len(windows.ids))
    assert torch.equal(target, everything)
    assert torch.equal(fed, everything - 1), "scored by the logits of another position"
    context = seen - (windows.window - content)
    starts = target - context
    assert torch.equal(first, torch.full_like(first, BOS) if windows.bos_id is not None else starts)
    assert torch.equal(starts, windows.window_of_token * stride)
    assert bool((context >= torch.minimum(everything, torch.tensor(content - stride + 1))).all()), (
        "less context than promised"
    )
    assert bool((context <= content).all())


@pytest.mark.parametrize("bos_id", [None, BOS], ids=["no BOS", "BOS"])
@pytest.mark.parametrize("window", range(2, 13))
def test_each_position_is_scored_once_with_the_promised_context(window: int, bos_id: int | None) -> None:
    """Every length from 2 to 50 and every stride, cut; some of the lengths run through a model as well."""
    content = window - (bos_id is not None)
    for length, stride in itertools.product(range(2, 51), range(1, content + 1)):
        windows = TokenWindows(torch.arange(length), window, stride, bos_id)
        assert windows.scored == length - 1
        check_spans(windows, stride, content)
        if length in (2, 3, window, window + 1, window + 2, 23, 50):
            check_run(windows, stride, content)


def test_default_stride_is_the_window_less_bos() -> None:
    ids = torch.arange(30)
    assert TokenWindows(ids, 7).spans == TokenWindows(ids, 7, 7).spans
    assert TokenWindows(ids, 7, None, BOS).spans == TokenWindows(ids, 7, 6, BOS).spans
    assert [start for start, _, _ in TokenWindows(ids, 7, None, BOS).spans] == [0, 6, 12, 18, 24]


def test_a_window_as_long_as_the_text_is_one_forward_over_all_but_the_last_token() -> None:
    for window in (9, 10, 1000):
        probe = Probe()
        list(window_logits(probe, TokenWindows(torch.arange(10), window), batch_size=8))
        assert probe.shapes == [(1, 9)]


def test_windows_of_equal_length_share_a_call_and_nothing_is_padded() -> None:
    probe = Probe()
    list(window_logits(probe, TokenWindows(torch.arange(24), 5), batch_size=3))
    assert probe.shapes == [(3, 5), (1, 5), (1, 3)]


def test_bos_comes_first_in_every_window_and_is_never_scored() -> None:
    windows = TokenWindows(torch.arange(23), 6, bos_id=BOS)
    for inputs, _ in windows.batches(2):
        assert bool((inputs[:, 0] == BOS).all())
        assert not bool((inputs[:, 1:] == BOS).any())
    assert BOS not in scored(windows, 2)[:, 0]


def test_progress_counts_every_scored_token() -> None:
    told: list[int] = []
    list(window_logits(Probe(), TokenWindows(torch.arange(24), 5, 2), 3, told.append))
    assert sum(told) == 23


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_tokens_are_refused(count: int) -> None:
    with pytest.raises(QuantError, match=f"has {count} tokens.*at least two"):
        TokenWindows(torch.arange(count), 4)


def test_two_tokens_make_one_prediction() -> None:
    assert scored(TokenWindows(torch.tensor([5, 9]), 4), 8).tolist() == [[9, 5, 1, 5]]


@pytest.mark.parametrize(
    ("window", "stride", "bos_id", "message"),
    [
        (0, None, None, "window 0 leaves no room for a token, use at least 1"),
        (-1, None, None, "window -1"),
        (1, None, 0, "window 1 leaves no room for a token, use at least 2"),
        (4, 0, None, "stride 0 is out of range, use 1 to 4"),
        (4, 5, None, "stride 5 is out of range, use 1 to 4"),
        (4, 4, 0, "stride 4 is out of range, use 1 to 3"),
    ],
)
def test_a_window_or_stride_out_of_range_is_refused_with_the_range(
    window: int, stride: int | None, bos_id: int | None, message: str
) -> None:
    with pytest.raises(QuantError, match=message):
        TokenWindows(torch.arange(9), window, stride, bos_id)


@pytest.mark.parametrize(
    "ids", [torch.arange(4.0), torch.arange(4).int(), torch.arange(4)[None]], ids=["float", "int32", "2-D"]
)
def test_ids_of_another_dtype_or_shape_are_refused(ids: Tensor) -> None:
    with pytest.raises(QuantError, match=r"must be int64 \[N\]"):
        TokenWindows(ids, 4)


def test_a_window_longer_than_the_models_positions_is_refused() -> None:
    model = Bigram(table(5, 5), positions=8)
    list(window_logits(model, TokenWindows(stream(30, 5), 8), 1))
    with pytest.raises(QuantError, match="window 9 exceeds the model's 8 positions"):
        list(window_logits(model, TokenWindows(stream(30, 5), 9), 1))


@pytest.mark.parametrize(("ids", "bos_id"), [([0, 5, 1], None), ([0, 1, 2], 5)], ids=["text", "BOS"])
def test_a_token_outside_the_vocabulary_is_refused(ids: list[int], bos_id: int | None) -> None:
    with pytest.raises(QuantError, match="token id 5 is outside the model's vocabulary of 5"):
        list(window_logits(Uniform(5), TokenWindows(torch.tensor(ids), 4, bos_id=bos_id), 1))


def test_the_hash_is_of_the_ids_as_little_endian_int64() -> None:
    ids = [3, 1, 4, 1, 5, 2**40]
    expected = hashlib.sha256(struct.pack("<6q", *ids)).hexdigest()
    assert TokenWindows(torch.tensor(ids), 4).sha256 == expected
    assert TokenWindows(torch.tensor(ids), 3, 1, bos_id=0).sha256 == expected
    assert TokenWindows(torch.tensor(ids[::-1]), 4).sha256 != expected


def test_evaluating_switches_training_and_gradients_off_and_restores_each_module() -> None:
    inner = nn.Sequential(nn.Dropout(), nn.Dropout())
    model = nn.Sequential(nn.Dropout(), inner, nn.Dropout()).train()
    inner.eval()
    inner[1].train()
    before = [module.training for module in model.modules()]
    assert before == [True, True, False, False, True, True]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert torch.is_inference_mode_enabled()
    assert [module.training for module in model.modules()] == before
    assert not torch.is_inference_mode_enabled()


def test_evaluating_restores_after_an_exception() -> None:
    model = nn.Dropout().train()
    with pytest.raises(RuntimeError, match="planted"), evaluating(model):
        raise RuntimeError("planted")
    assert model.training


@pytest.mark.parametrize(
    ("adds_bos", "rule", "expected"),
    [
        (False, "auto", None),
        (True, "auto", 1),
        (False, "always", 1),
        (True, "always", 1),
        (False, "never", None),
        (True, "never", None),
    ],
)
def test_bos_rules_follow_the_tokenizer_or_the_caller(adds_bos: bool, rule: str, expected: int | None) -> None:
    assert bos_token(StubTokenizer(1, adds_bos), rule) == expected


def test_bos_rules_of_a_tokenizer_without_bos() -> None:
    tokenizer = StubTokenizer(None)
    assert bos_token(tokenizer, "auto") is None
    assert bos_token(tokenizer, "never") is None
    with pytest.raises(QuantError, match="no BOS token: use --bos never"):
        bos_token(tokenizer, "always")
    with pytest.raises(QuantError, match="unknown BOS rule 'first'"):
        bos_token(tokenizer, "first")


@pytest.mark.parametrize("adds_bos", [False, True])
def test_the_text_is_tokenized_without_special_tokens(adds_bos: bool) -> None:
    """Whatever the tokenizer does by itself: BOS is put in by the windows, so here it would come twice."""
    assert tokenize(StubTokenizer(1, adds_bos), "ab").tolist() == [3 + ord("a"), 3 + ord("b")]


@pytest.mark.parametrize(
    ("length", "window", "stride", "bos_id"), [(41, 4, None, None), (50, 8, 3, None), (43, 6, 2, 0)]
)
def test_halves_score_each_token_once_in_one_of_the_two(
    length: int, window: int, stride: int | None, bos_id: int | None
) -> None:
    whole = TokenWindows(torch.arange(length), window, stride, bos_id)
    first, rest = whole.halves()
    assert [*first.ids[1:].tolist(), *rest.ids[1:].tolist()] == whole.ids[1:].tolist()
    assert {(part.window, part.stride, part.bos_id) for part in (first, rest)} == {(window, stride, bos_id)}
    assert first.spans == whole.spans[: len(whole.spans) // 2]
    if stride is None:
        shift = len(first.ids) - 1
        assert [tuple(place + shift for place in span) for span in rest.spans] == whole.spans[len(first.spans) :]


def test_two_windows_are_two_halves() -> None:
    first, rest = TokenWindows(torch.arange(9), 4).halves()
    assert (len(first.spans), len(rest.spans)) == (1, 1)


def test_a_single_window_has_no_halves() -> None:
    with pytest.raises(QuantError, match="a text of one window has no halves: pass a longer text or a smaller window"):
        TokenWindows(torch.arange(5), 4).halves()
