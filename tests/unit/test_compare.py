"""compare() on a tiny model from disk: its records against numbers computed here from the logits, term by term."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, Phi3ForCausalLM

from quant.compare import Comparison, Request, compare
from quant.convert import quantize
from quant.errors import QuantError
from quant.evaluate.windows import TokenWindows
from quant.report.json_file import comparison_json
from quant.schemes import NF4, W8A16, Scheme
from quant.variants import VARIANTS
from tests.fakes import expected_kl, log_sum_exp

WINDOW = 24
TOKENS = 24 * 24 + 7
"""24 full windows and a short one, enough for an interval."""
NEW_TOKENS = 3
Rows = list[list[float]]

pytestmark = pytest.mark.usefixtures("quick_comparisons")


def make_request(folder: Path, text: Path, **changes: Any) -> Request:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"][:TOKENS])
    request = Request(
        model="tiny",
        folder=folder,
        dtype=torch.float32,
        windows=TokenWindows(ids, WINDOW),
        tokenizer=tokenizer,
        batch_size=1,
        prompt_tokens=5,
        new_tokens=NEW_TOKENS,
        repeats=1,
        schemes=("w8a16", "nf4"),
    )
    return dataclasses.replace(request, **changes)


@pytest.fixture(scope="module")
def request_(model_folder: Path, text_file: Path) -> Request:
    return make_request(model_folder, text_file)


@pytest.fixture(scope="module")
def comparison(request_: Request, quick_comparisons: None) -> Comparison:
    return compare(request_)


def direct_rows(request: Request, scheme: Scheme | None) -> Rows:
    """Logits for every token from the second on, one chunk at a time, as float64 lists."""
    model: Any = Phi3ForCausalLM.from_pretrained(request.folder, dtype=torch.float32).eval()
    if scheme is not None:
        quantize(model, scheme)
    ids: Tensor = request.windows.ids
    rows: Rows = []
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, WINDOW):
            chunk = ids[start : min(start + WINDOW, len(ids) - 1)]
            rows += model(input_ids=chunk[None], use_cache=False).logits[0].double().tolist()
    return rows


@pytest.fixture(scope="module")
def baseline_rows(request_: Request, quick_comparisons: None) -> Rows:
    return direct_rows(request_, None)


def mean_loss(rows: Rows, ids: Tensor) -> float:
    losses = [log_sum_exp(row) - row[target] for row, target in zip(rows, ids[1:].tolist(), strict=True)]
    return math.fsum(losses) / len(losses)


def mean_kl(p_rows: Rows, q_rows: Rows) -> float:
    return math.fsum(expected_kl(p, q) for p, q in zip(p_rows, q_rows, strict=True)) / len(p_rows)


def agreement(p_rows: Rows, q_rows: Rows) -> float:
    """index() finds the first of equal values, so ties go to the lowest token."""
    return sum(p.index(max(p)) == q.index(max(q)) for p, q in zip(p_rows, q_rows, strict=True)) / len(p_rows)


def test_the_baselines_perplexity_is_that_of_its_logits(
    comparison: Comparison, request_: Request, baseline_rows: Rows
) -> None:
    """Same shapes, so the same logits to the bit; what is left is rounding in float64, some 1e-15 of a loss of about
    ten nats.
    """
    assert comparison.results[0].perplexity == pytest.approx(
        math.exp(mean_loss(baseline_rows, request_.windows.ids)), rel=1e-12
    )


@pytest.mark.parametrize(("index", "scheme"), [(1, W8A16()), (2, NF4())], ids=["w8a16", "nf4"])
def test_a_record_equals_the_numbers_computed_from_the_logits(
    comparison: Comparison, request_: Request, baseline_rows: Rows, index: int, scheme: Scheme
) -> None:
    ids = request_.windows.ids
    rows = direct_rows(request_, scheme)
    result = comparison.results[index]
    baseline, own = mean_loss(baseline_rows, ids), mean_loss(rows, ids)
    assert result.perplexity == pytest.approx(math.exp(own), rel=1e-12)
    assert result.perplexity_difference == pytest.approx(math.exp(own) - math.exp(baseline), rel=1e-6)
    assert result.perplexity_ratio == pytest.approx(math.exp(own - baseline), rel=1e-12)
    assert result.perplexity_relative_change == pytest.approx(math.expm1(own - baseline), rel=1e-6)
    # Each term of KL is a difference of log-probabilities of up to 20 nats, off by a few last places: 1e-14 a row.
    assert result.kl_mean == pytest.approx(mean_kl(baseline_rows, rows), abs=1e-13)
    assert result.top1_agreement == agreement(baseline_rows, rows)


def test_quantizing_costs_what_one_expects(comparison: Comparison) -> None:
    """int8 changes little and 4 bits more, in every measure; neither is free and neither destroys the model."""
    _, int8, nf4 = comparison.results
    assert int8.kl_mean is not None
    assert nf4.kl_mean is not None
    assert int8.top1_agreement is not None
    assert nf4.top1_agreement is not None
    assert int8.perplexity_ratio is not None
    assert 0 < 10 * int8.kl_mean < nf4.kl_mean < 1
    assert 0.5 < nf4.top1_agreement < int8.top1_agreement < 1
    assert 0 < abs(int8.perplexity_ratio - 1) < 0.01


def test_intervals_enclose_their_values(comparison: Comparison) -> None:
    for result in comparison.results[1:]:
        for interval, value in (
            (result.perplexity_ratio_ci, result.perplexity_ratio),
            (result.kl_mean_ci, result.kl_mean),
        ):
            assert interval is not None
            assert value is not None
            assert interval[0] < value < interval[1]


def test_the_baseline_has_no_comparison_with_itself(comparison: Comparison) -> None:
    baseline = comparison.results[0]
    compared = (
        "perplexity_difference",
        "perplexity_relative_change",
        "perplexity_ratio",
        "kl_mean",
        "kl_mean_ci",
        "top1_agreement",
    )
    assert baseline.perplexity is not None
    assert [getattr(baseline, name) for name in compared] == [None] * len(compared)


def test_sizes_are_the_analytic_ones(comparison: Comparison) -> None:
    """Two layers of qkv 64 -> 128, o 64 -> 64, gate_up 64 -> 256, down 128 -> 64; embedding and head 512 x 64; five
    norms of 64.
    """
    shapes = [(128, 64), (64, 64), (256, 64), (64, 128)] * 2
    kept = 4 * (2 * 512 * 64 + 5 * 64)
    expected = (
        kept + 4 * sum(a * b for a, b in shapes),
        *(kept + sum(s.storage_bytes(*shape) for shape in shapes) for s in (W8A16(), NF4())),
    )
    assert tuple(result.parameter_bytes for result in comparison.results) == expected
    for result in comparison.results:
        assert result.parameter_bytes is not None
        assert result.buffer_bytes is not None
        assert (
            result.footprint_bytes
            == result.parameter_bytes + result.buffer_bytes
            == sum(result.bytes_by_dtype.values())
        )
    assert [(result.quantized_layers, result.linear_layers) for result in comparison.results] == [
        (0, 9),
        (8, 9),
        (8, 9),
    ]


def test_size_and_speed_are_told_in_terms_of_the_baseline_s(comparison: Comparison) -> None:
    baseline = comparison.results[0]
    assert (baseline.times_smaller, baseline.times_faster) == (1.0, 1.0)
    for result in comparison.results:
        assert None not in (baseline.footprint_bytes, result.footprint_bytes, baseline.tokens_per_second)
        assert result.times_smaller == baseline.footprint_bytes / result.footprint_bytes  # type: ignore[operator]
        assert result.times_faster == result.tokens_per_second / baseline.tokens_per_second  # type: ignore[operator]
        assert result.interval_note is None


def test_one_new_token_has_no_decode_speed_to_compare(request_: Request) -> None:
    windows = TokenWindows(request_.windows.ids[:40], WINDOW)
    for result in compare(dataclasses.replace(request_, windows=windows, schemes=("w8a16",), new_tokens=1)).results:
        assert (result.tokens_per_second, result.times_faster) == (None, None)
        assert result.prefill_tokens_per_second is not None


def test_generation_is_timed_and_shown(comparison: Comparison, request_: Request) -> None:
    assert (comparison.prompt_tokens, comparison.new_tokens) == (5, NEW_TOKENS)
    for result in comparison.results:
        assert result.generated is not None
        assert len(request_.tokenizer(result.generated, add_special_tokens=False)["input_ids"]) <= NEW_TOKENS
        for seconds in (
            result.load_seconds,
            result.generate_seconds,
            result.prefill_tokens_per_second,
            result.tokens_per_second,
        ):
            assert seconds is not None
            assert seconds > 0
        assert result.cpu_memory_bytes is not None


def test_the_fingerprint_is_of_this_run(comparison: Comparison, request_: Request) -> None:
    environment = comparison.environment
    assert environment.tokens_sha256 == request_.windows.sha256
    assert (environment.scored_tokens, environment.window, environment.batch_size) == (TOKENS - 1, WINDOW, 1)
    assert (environment.dtype, environment.device) == ("float32", "cpu")


def test_the_records_are_json_without_nan(comparison: Comparison) -> None:
    record = json.loads(comparison_json(comparison), parse_constant=lambda name: pytest.fail(name))
    assert [result["scheme"] for result in record["results"]] == ["baseline", "w8a16", "nf4"]
    assert record["results"][1]["perplexity_ratio"] == comparison.results[1].perplexity_ratio


@pytest.mark.parametrize("batch_size", [3, 8])
def test_other_batch_sizes_agree(comparison: Comparison, request_: Request, batch_size: int) -> None:
    """Matrix products of another shape add in another order. Logits of about ten, in float32 through two layers of sums
    of 64 to 128 terms, move by 1e-5 at most, and the mean loss by less.
    """
    other = compare(dataclasses.replace(request_, batch_size=batch_size, new_tokens=2, schemes=("w8a16",)))
    for ours, theirs in zip(comparison.results, other.results, strict=False):
        assert ours.perplexity is not None
        assert theirs.perplexity == pytest.approx(ours.perplexity, rel=1e-5)


def test_the_block_size_is_used_and_recorded(comparison: Comparison, request_: Request) -> None:
    windows = TokenWindows(request_.windows.ids[:40], WINDOW)
    _, nf4, int8 = compare(
        dataclasses.replace(request_, windows=windows, schemes=("nf4", "w8a16"), block_size=256, new_tokens=2)
    ).results
    assert (nf4.block_size, int8.block_size) == (256, None)
    assert [result.block_size for result in comparison.results] == [None, None, 64]
    weights = 2 * 64 * (128 + 64 + 256 + 128)
    assert comparison.results[2].parameter_bytes is not None
    assert nf4.parameter_bytes == comparison.results[2].parameter_bytes - 4 * (weights // 64 - weights // 256)


def test_the_baseline_comes_first_once_and_the_others_as_asked(request_: Request) -> None:
    ids = request_.windows.ids[:40]
    request = dataclasses.replace(
        request_, windows=TokenWindows(ids, WINDOW), schemes=("nf4", "baseline", "w8a16", "nf4"), new_tokens=2
    )
    told: list[tuple[str, int, int]] = []
    results = compare(request, lambda what, done, total: told.append((what, done, total))).results
    assert [result.scheme for result in results] == ["baseline", "nf4", "w8a16"]
    assert [what for what, _, _ in told if what in (*VARIANTS, "done")] == ["baseline", "nf4", "w8a16", "done"]
    assert ("w8a16: perplexity", 39, 39) in told
    assert told[-1][1] == told[-1][2]
    assert results[1].perplexity_ratio_ci is None
    assert results[1].interval_note == "2 windows are too few to resample, it takes 20"


@pytest.mark.usefixtures("without_bitsandbytes")
def test_a_variant_that_cannot_be_made_is_a_record_with_the_reason(
    tied_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default everything is tried: here a tied head and a missing bitsandbytes must not cost the other results."""
    monkeypatch.setattr("quant.compare.VARIANTS", ("baseline", "w8a16-full", "bnb-nf4", "w8a16"))
    request = make_request(tied_folder, text_file, schemes=None, new_tokens=2)
    baseline, full, bnb, int8 = compare(
        dataclasses.replace(request, windows=TokenWindows(request.windows.ids[:40], WINDOW))
    ).results
    assert (full.scheme, bnb.scheme) == ("w8a16-full", "bnb-nf4")
    assert full.error is not None
    assert "shared with model.embed_tokens" in full.error
    assert bnb.error is not None
    assert "pip install" in bnb.error
    assert (full.perplexity, full.footprint_bytes, bnb.perplexity) == (None, None, None)
    assert (baseline.error, int8.error) == (None, None)
    assert int8.perplexity_ratio is not None


def test_a_variant_asked_for_by_name_that_cannot_be_made_is_an_error(tied_folder: Path, text_file: Path) -> None:
    request = make_request(tied_folder, text_file, schemes=("w8a16-full",), new_tokens=2)
    with pytest.raises(QuantError, match=r"shared with model\.embed_tokens"):
        compare(dataclasses.replace(request, windows=TokenWindows(request.windows.ids[:40], WINDOW)))


@pytest.mark.parametrize("schemes", [("w8a17",), ("w8a16", ""), ()], ids=["unknown", "empty name", "none"])
def test_unknown_schemes_are_refused_before_anything_is_loaded(
    request_: Request, schemes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.compare.load_variant", lambda *_: pytest.fail("loaded a model"))
    with pytest.raises(QuantError, match="unknown scheme"):
        compare(dataclasses.replace(request_, schemes=schemes))
