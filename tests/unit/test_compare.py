"""compare() on a tiny model from disk: its records against numbers computed here from the logits, term by term."""

import dataclasses
import json
import math
import statistics
from pathlib import Path

import pytest
import torch

from quant.compare import compare
from quant.evaluate.windows import TokenWindows
from quant.records import Comparison, Request
from quant.report.json_file import comparison_json
from quant.schemes import NF4, W8A16, Scheme
from tests.fakes import ROUNDING, exp_tolerance, kl_tolerance, loss_tolerance, mean_tolerance
from tests.unit.tiny_comparison import (
    NEW_TOKENS,
    TOKENS,
    WINDOW,
    Rows,
    agreement,
    direct_rows,
    kls_of,
    load,
    losses_of,
    make_request,
)

pytestmark = pytest.mark.usefixtures("quick_comparisons")


@pytest.fixture(scope="module")
def request_(model_folder: Path, text_file: Path) -> Request:
    return make_request(model_folder, text_file)


@pytest.fixture(scope="module")
def comparison(request_: Request, quick_comparisons: None) -> Comparison:
    return compare(request_)


def perplexity_and_tolerance(rows: Rows, ids: torch.Tensor) -> tuple[float, float]:
    """The perplexity of `rows`, and by how much of itself another computation may differ."""
    losses = losses_of(rows, ids)
    tolerance = exp_tolerance(mean_tolerance(losses, loss_tolerance(torch.tensor(rows))))
    return math.exp(math.fsum(losses) / len(losses)), tolerance


def assert_accuracy_is_that_of_the_logits(comparison: Comparison, request: Request, rows: Rows, index: int) -> None:
    """Record `index` against a quantized model's `rows` and those of the baseline."""
    ids, result = request.windows.ids, comparison.results[index]
    baseline_rows = direct_rows(request, None)
    (before, off_before), (after, off_after) = (perplexity_and_tolerance(r, ids) for r in (baseline_rows, rows))
    assert comparison.results[0].perplexity == pytest.approx(before, rel=off_before)
    assert result.perplexity == pytest.approx(after, rel=off_after)
    ratio, off_ratio = after / before, 2 * (off_before + off_after)
    assert result.perplexity_ratio == pytest.approx(ratio, rel=off_ratio)
    assert result.perplexity_difference == pytest.approx(after - before, abs=before * off_before + after * off_after)
    assert result.perplexity_relative_change == pytest.approx(ratio - 1, abs=ratio * off_ratio + 2 * ROUNDING)
    kls = kls_of(baseline_rows, rows)
    off_kl = mean_tolerance(kls, kl_tolerance(torch.tensor(baseline_rows), torch.tensor(rows)))
    assert result.kl_mean == pytest.approx(math.fsum(kls) / len(kls), abs=off_kl)
    assert result.top1_agreement == agreement(baseline_rows, rows)
    # All figures differ from the baseline's by far more than what is allowed.
    assert min(abs(ratio - 1), math.fsum(kls) / len(kls)) > 1000 * max(off_ratio, off_kl)


@pytest.mark.parametrize(("index", "scheme"), [(1, W8A16()), (2, NF4())], ids=["w8a16", "nf4"])
def test_a_record_equals_the_numbers_computed_from_the_logits(
    comparison: Comparison, request_: Request, index: int, scheme: Scheme
) -> None:
    assert_accuracy_is_that_of_the_logits(comparison, request_, direct_rows(request_, scheme), index)


@pytest.mark.parametrize("batch_size", [3, 8])
def test_so_does_it_at_other_batch_sizes(request_: Request, batch_size: int) -> None:
    """24 windows: eight or three full batches; the short window is a batch of its own."""
    request = dataclasses.replace(request_, batch_size=batch_size, new_tokens=2, schemes=("w8a16",))
    comparison = compare(request)
    assert comparison.environment.batch_size == batch_size
    assert_accuracy_is_that_of_the_logits(comparison, request, direct_rows(request, W8A16()), 1)


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


def test_where_the_losses_are_is_that_of_the_logits(comparison: Comparison, request_: Request) -> None:
    """24 windows of 24 tokens, and one of 6."""
    ids = request_.windows.ids
    rows = {None: direct_rows(request_, None), NF4(): direct_rows(request_, NF4())}
    before, after = (losses_of(found, ids) for found in rows.values())
    off = max(loss_tolerance(torch.tensor(found)) for found in rows.values())
    assert comparison.window_tokens == (*(WINDOW,) * 24, 6)
    assert [(b.first, b.last, b.tokens) for b in comparison.positions] == [
        (1, 1, 25),
        (2, 2, 25),
        (3, 4, 50),
        (5, 8, 98),
        (9, 16, 192),
        (17, 24, 192),
    ]
    baseline, _, nf4 = comparison.results
    for result, losses in ((baseline, before), (nf4, after)):
        expected = [
            math.fsum(losses[s : s + WINDOW]) / len(losses[s : s + WINDOW]) for s in range(0, len(losses), WINDOW)
        ]
        assert result.window_losses == pytest.approx(expected, abs=off + mean_tolerance(losses, 0))
        assert result.loss_by_position is not None
        first = math.fsum(losses[::WINDOW]) / 25
        assert result.loss_by_position[0] == pytest.approx(first, abs=off + mean_tolerance(losses, 0))
    differences = sorted(b - a for a, b in zip(before, after, strict=True))
    assert nf4.loss_difference_quantiles["0.5"] == pytest.approx(statistics.median(differences), abs=2 * off)
    assert (
        differences[0] < nf4.loss_difference_quantiles["0.01"] < nf4.loss_difference_quantiles["0.99"] < differences[-1]
    )
    assert (baseline.window_kl, baseline.loss_difference_by_position) == (None, None)
    kls = kls_of(*rows.values())
    assert nf4.window_kl is not None
    off_kl = mean_tolerance(kls[-6:], kl_tolerance(*(torch.tensor(found) for found in rows.values())))
    assert nf4.window_kl[-1] == pytest.approx(math.fsum(kls[-6:]) / 6, abs=off_kl)


def test_the_error_of_each_layer_is_told(comparison: Comparison) -> None:
    """Random normal weights: 8 bits for absmax over a row err by some 40 dB, 4 bits by some 20."""
    baseline, int8, nf4 = comparison.results
    assert baseline.layer_sqnr == {}
    assert list(int8.layer_sqnr) == list(nf4.layer_sqnr)
    assert len(int8.layer_sqnr) == int8.quantized_layers
    assert all(35 < value < 50 for value in int8.layer_sqnr.values())
    assert all(15 < value < 25 for value in nf4.layer_sqnr.values())


def test_how_far_the_generated_text_is_the_baseline_s(comparison: Comparison) -> None:
    first = comparison.results[0].generated
    assert first is not None
    for result in comparison.results:
        assert result.generated is not None
        agrees = result.generated_agrees
        assert agrees is not None
        assert first[:agrees] == result.generated[:agrees]
        assert first[agrees : agrees + 1] != result.generated[agrees : agrees + 1] or first == result.generated


def test_one_new_token_has_no_decode_speed_to_compare(request_: Request) -> None:
    windows = TokenWindows(request_.windows.ids[:40], WINDOW)
    for result in compare(dataclasses.replace(request_, windows=windows, schemes=("w8a16",), new_tokens=1)).results:
        assert (result.tokens_per_second, result.times_faster) == (None, None)
        assert result.prefill_tokens_per_second is not None


def test_generation_is_timed_and_shown(comparison: Comparison, request_: Request) -> None:
    assert (comparison.prompt_tokens, comparison.new_tokens) == (5, NEW_TOKENS)
    for result, scheme in zip(comparison.results, (None, W8A16(), NF4()), strict=True):
        assert result.generated == request_.tokenizer.decode(greedy(request_, scheme))
        for seconds in (
            result.load_seconds,
            result.generate_seconds,
            result.prefill_tokens_per_second,
            result.tokens_per_second,
        ):
            assert seconds is not None
            assert seconds > 0
        assert result.cpu_memory_bytes is not None


@torch.inference_mode()
def greedy(request: Request, scheme: Scheme | None) -> list[int]:
    """The likeliest tokens after the prompt without a cache, the end of text (2) ruled out until the last."""
    model, ids = load(request, scheme), request.windows.ids[: request.prompt_tokens].tolist()
    for place in range(request.new_tokens):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        if place < request.new_tokens - 1:
            logits[2] = -math.inf
        best, second = logits.topk(2).values.tolist()
        # With a cache float32 sums have another order: `tests.measured` has what that may cost.
        assert best - second > 1e-3 * best
        ids.append(int(logits.argmax()))
    return ids[request.prompt_tokens :]


def test_the_fingerprint_is_of_this_run(comparison: Comparison, request_: Request) -> None:
    environment = comparison.environment
    assert environment.tokens_sha256 == request_.windows.sha256
    assert (environment.scored_tokens, environment.window, environment.batch_size) == (TOKENS - 1, WINDOW, 1)
    assert (environment.dtype, environment.device) == ("float32", "cpu")


def test_the_records_are_json_without_nan(comparison: Comparison) -> None:
    record = json.loads(comparison_json(comparison), parse_constant=lambda name: pytest.fail(name))
    assert [result["scheme"] for result in record["results"]] == ["baseline", "w8a16", "nf4"]
    assert record["results"][1]["perplexity_ratio"] == comparison.results[1].perplexity_ratio
