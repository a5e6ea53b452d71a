"""A baseline and what is compared with it: logits kept or computed again, token by token, and errors that say where."""

import gc
import math
import weakref

import pytest
import torch
from torch import Tensor, nn

from quant.errors import QuantError
from quant.evaluate.divergence import Baseline
from quant.evaluate.perplexity import stream_losses
from quant.evaluate.windows import TokenWindows
from tests.fakes import Bigram, Context, expected_kl, kl_tolerance, stream, table

VOCAB = 7


def measured_windows() -> TokenWindows:
    return TokenWindows(stream(61, VOCAB), 8, 3, bos_id=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_kept_and_recomputed_logits_give_the_same_bits(batch_size: int, dtype: torch.dtype) -> None:
    windows = measured_windows()
    model, other = Context(table(11, VOCAB, 1).to(dtype)), Context(table(11, VOCAB, 2).to(dtype))
    kept, recomputed = Baseline(model, windows, batch_size), Baseline(model, windows, batch_size, limit_bytes=0)
    assert (kept.keeps_model, recomputed.keeps_model) == (False, True)
    assert torch.equal(kept.losses, recomputed.losses)
    a, b = kept.compare(other), recomputed.compare(other)
    for left, right in ((a.losses, b.losses), (a.kl, b.kl), (a.top1, b.top1)):
        assert left is not None
        assert right is not None
        assert len(left) == windows.scored
        assert torch.equal(left, right)


def test_measurements_equal_the_direct_ones_token_by_token() -> None:
    windows = measured_windows()
    model, other = Context(table(11, VOCAB, 1)), Context(table(11, VOCAB, 1) + table(11, VOCAB, 2, spread=1.0))
    baseline = Baseline(model, windows, batch_size=3)
    measured = baseline.compare(other)
    assert torch.equal(baseline.losses, stream_losses(model, windows))
    assert torch.equal(measured.losses, stream_losses(other, windows))
    assert measured.kl is not None
    assert measured.top1 is not None
    p_rows, q_rows = (m.get_buffer("table").double().tolist() for m in (model, other))
    tolerance = kl_tolerance(model.get_buffer("table"), other.get_buffer("table"))
    ids = windows.ids.tolist()
    for t, window, kl, top1 in zip(
        range(1, 61), windows.window_of_token.tolist(), measured.kl, measured.top1, strict=True
    ):
        fed = [0, *ids[3 * window : t]]
        row = sum((place + 1) * token for place, token in enumerate(fed)) % 11
        assert float(kl) == pytest.approx(expected_kl(p_rows[row], q_rows[row]), abs=tolerance)
        assert bool(top1) == (p_rows[row].index(max(p_rows[row])) == q_rows[row].index(max(q_rows[row])))
    assert 0 < int(measured.top1.sum()) < 60


def test_a_model_agrees_with_itself_exactly() -> None:
    baseline = Baseline(Context(table(11, VOCAB)), measured_windows())
    assert baseline.measurement.fingerprint.batch_size == 8
    measured = baseline.compare(Context(table(11, VOCAB)))
    assert measured.kl is not None
    assert measured.top1 is not None
    assert torch.equal(measured.losses, baseline.losses)
    assert not measured.kl.any()
    assert bool(measured.top1.all())


def test_logits_are_kept_up_to_the_limit_and_not_beyond() -> None:
    """60 scored tokens of 7 float32 logits."""
    model, size = Context(table(11, VOCAB)), 60 * VOCAB * 4
    kept = Baseline(model, measured_windows(), limit_bytes=size)
    assert not kept.keeps_model
    assert kept.compare(model).kl is not None
    assert Baseline(model, measured_windows(), limit_bytes=size - 1).keeps_model


def test_the_baseline_model_is_let_go_where_its_logits_are_kept() -> None:
    model = Context(table(11, VOCAB))
    alive = weakref.ref(model)
    baseline = Baseline(model, measured_windows())
    del model
    gc.collect()
    assert alive() is None
    assert baseline.compare(Context(table(11, VOCAB))).kl is not None


def test_progress_counts_every_token_of_both_passes() -> None:
    first: list[int] = []
    second: list[int] = []
    baseline = Baseline(Context(table(11, VOCAB)), measured_windows(), 3, 0, first.append)
    baseline.compare(Context(table(11, VOCAB)), second.append)
    assert sum(first) == sum(second) == 60


def test_nan_logits_are_an_error_that_names_the_window() -> None:
    """Token 14 is fed first in the window that starts at 8."""
    windows = TokenWindows(torch.arange(50), 8)
    healthy, broken = table(50, 50), table(50, 50)
    broken[14] = math.nan
    with pytest.raises(QuantError) as of_baseline:
        Baseline(Bigram(broken), windows)
    with pytest.raises(QuantError) as of_model:
        Baseline(Bigram(healthy), windows).compare(Bigram(broken))
    assert "window 1 (from token 8)" in str(of_baseline.value)
    assert "window 1 (from token 8)" in str(of_model.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_or_infinite_logits_are_an_error(value: float) -> None:
    broken = table(VOCAB, VOCAB)
    broken[3, 2] = value
    with pytest.raises(QuantError, match="NaN or infinite"):
        Baseline(Bigram(broken), measured_windows())
    with pytest.raises(QuantError, match="NaN or infinite"):
        Baseline(Bigram(table(VOCAB, VOCAB)), measured_windows()).compare(Bigram(broken))


class Noisy(nn.Module):
    """Bigram logits behind dropout."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)
        self.dropout = nn.Dropout(0.5)

    def forward(self, input_ids: Tensor, use_cache: bool) -> object:
        return Bigram(self.dropout(self.rows))(input_ids=input_ids, use_cache=use_cache)


def test_a_baseline_in_training_mode_is_recomputed_in_evaluation_mode() -> None:
    rows = table(VOCAB, VOCAB)
    baseline = Baseline(Noisy(rows).train(), measured_windows(), limit_bytes=0)
    measured = baseline.compare(Bigram(rows))
    assert measured.kl is not None
    assert not measured.kl.any()


def test_a_measurement_says_how_many_windows_went_together_and_where() -> None:
    model = Context(table(11, VOCAB))
    baseline = Baseline(model, measured_windows(), batch_size=3)
    for measurement in (baseline.measurement, baseline.compare(model)):
        assert (measurement.fingerprint.batch_size, measurement.fingerprint.device) == (3, "cpu")


def test_a_model_of_another_vocabulary_is_refused() -> None:
    windows = measured_windows()
    baseline = Baseline(Context(table(11, 10, 1)), windows)
    with pytest.raises(QuantError, match="gives 9 logits for a token and the baseline 10: compare models of one vocab"):
        baseline.compare(Context(table(11, 9, 1)))
