"""Which records compare() makes: all that were asked for, in order, and what becomes of those that cannot be made."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from quant.compare import compare
from quant.errors import QuantError
from quant.records import Request
from quant.variants import VARIANTS, LoadedModel, load_variant
from tests import measured
from tests.unit.tiny_comparison import short_request

pytestmark = pytest.mark.usefixtures("quick_comparisons")


@pytest.fixture(scope="module")
def request_(model_folder: Path, text_file: Path) -> Request:
    return short_request(model_folder, text_file)


@pytest.mark.slow  # every scheme loads, scores and generates, measured: 11 s
def test_every_variant_makes_a_record(request_: Request) -> None:
    """Asked for nothing in particular: all of them, bitsandbytes' too, on the tiny model."""
    baseline, *others = compare(dataclasses.replace(request_, schemes=None)).results
    assert (baseline.scheme, *(result.scheme for result in others)) == VARIANTS
    assert baseline.perplexity is not None
    assert baseline.footprint_bytes is not None
    kls = {result.scheme: result.kl_mean for result in others}
    assert kls == pytest.approx(measured.VARIANT_KL, rel=measured.KL_TOLERANCE)
    swapped = {**kls, "nf4": kls["nf4-dq"], "nf4-dq": kls["nf4"]}
    assert swapped != pytest.approx(measured.VARIANT_KL, rel=measured.KL_TOLERANCE)
    for result in others:
        assert result.error is None, result.scheme
        assert (result.quantized_layers, result.linear_layers) == (8 + (result.scheme == "w8a16-full"), 9)
        assert result.footprint_bytes is not None
        assert result.footprint_bytes < baseline.footprint_bytes
        assert result.generated
        assert result.tokens_per_second is not None
        assert result.tokens_per_second > 0


def test_block_size_and_scale_are_used_and_recorded(request_: Request) -> None:
    schemes = ("nf4", "w8a16")
    other = dataclasses.replace(request_, schemes=schemes, block_size=256, scale="mse")
    baseline, nf4, int8 = compare(other).results
    _, default, default_int8 = compare(dataclasses.replace(request_, schemes=schemes)).results
    assert (baseline.scale, nf4.scale, int8.scale) == (None, "mse", "mse")
    assert (default.scale, default_int8.scale) == ("absmax", "absmax")
    assert int8.kl_mean != default_int8.kl_mean
    assert (nf4.block_size, default.block_size, int8.block_size) == (256, 64, None)
    weights = 2 * 64 * (128 + 64 + 256 + 128)
    assert default.parameter_bytes is not None
    assert nf4.parameter_bytes == default.parameter_bytes - 4 * (weights // 64 - weights // 256)


def test_the_baseline_comes_first_once_and_the_others_as_asked(request_: Request) -> None:
    told: list[tuple[str, int, int]] = []
    request = dataclasses.replace(request_, schemes=("nf4", "baseline", "w8a16", "nf4"))
    results = compare(request, lambda what, done, total: told.append((what, done, total))).results
    assert [result.scheme for result in results] == ["baseline", "nf4", "w8a16"]
    assert [what for what, _, _ in told if what in (*VARIANTS, "done")] == ["baseline", "nf4", "w8a16", "done"]
    assert ("w8a16: perplexity", 39, 39) in told
    assert told[-1][1] == told[-1][2]
    assert results[1].perplexity_ratio_ci is None
    assert results[1].interval_note is not None
    assert results[1].interval_note.startswith("2 windows are too few to resample, it takes 20: pass a longer text")


@pytest.mark.usefixtures("without_bitsandbytes")
def test_a_variant_that_cannot_be_made_is_a_record_with_the_reason(
    tied_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default everything is tried: here a tied head and a missing bitsandbytes must not cost the other results."""
    monkeypatch.setattr("quant.compare.VARIANTS", ("baseline", "w8a16-full", "bnb-nf4", "w8a16"))
    baseline, full, bnb, int8 = compare(short_request(tied_folder, text_file, schemes=None)).results
    assert (full.scheme, bnb.scheme) == ("w8a16-full", "bnb-nf4")
    assert full.error is not None
    assert "shared with model.embed_tokens" in full.error
    assert bnb.error is not None
    assert "pip install" in bnb.error
    assert (full.perplexity, full.footprint_bytes, bnb.perplexity) == (None, None, None)
    assert (baseline.error, int8.error) == (None, None)
    assert int8.perplexity_ratio is not None


def test_a_variant_asked_for_by_name_that_cannot_be_made_is_an_error_before_anything_is_measured(
    tied_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.compare.load_variant", lambda *_, **__: pytest.fail("loaded a model"))
    request = short_request(tied_folder, text_file, schemes=("w8a16-full",))
    with pytest.raises(QuantError, match=r"shared with model\.embed_tokens"):
        compare(request)


@pytest.mark.parametrize("schemes", [None, ("w8a16", "nf4")])
def test_a_variant_that_fails_on_the_way_costs_no_record_of_the_others(
    request_: Request, monkeypatch: pytest.MonkeyPatch, schemes: tuple[str, ...] | None
) -> None:

    def load(name: str, *arguments: Any) -> LoadedModel:
        if name == "nf4":
            raise QuantError("nf4: the disk is failing")
        return load_variant(name, *arguments)

    monkeypatch.setattr("quant.compare.load_variant", load)
    monkeypatch.setattr("quant.compare.VARIANTS", ("baseline", "w8a16", "nf4"))
    results = compare(dataclasses.replace(request_, schemes=schemes)).results
    assert [(one.scheme, one.error, one.perplexity is not None) for one in results] == [
        ("baseline", None, True),
        ("w8a16", None, True),
        ("nf4", "nf4: the disk is failing", False),
    ]


@pytest.mark.parametrize("schemes", [None, ("bnb-nf4", "w8a16")])
def test_bitsandbytes_may_fail_in_any_way(
    request_: Request, monkeypatch: pytest.MonkeyPatch, schemes: tuple[str, ...] | None
) -> None:
    """As with rows that are no multiple of 64 on CPUs with AVX512-BF16, deep in a call of its own."""

    def load(name: str, *arguments: Any) -> LoadedModel:
        if name.startswith("bnb-"):
            raise RuntimeError("shape '[128, 5]' is invalid for input of size 704")
        return load_variant(name, *arguments)

    monkeypatch.setattr("quant.compare.load_variant", load)
    monkeypatch.setattr("quant.compare.VARIANTS", ("baseline", "bnb-nf4", "w8a16"))
    results = compare(dataclasses.replace(request_, schemes=schemes)).results
    assert [(one.scheme, one.error) for one in results] == [
        ("baseline", None),
        ("bnb-nf4", "bitsandbytes failed: RuntimeError: shape '[128, 5]' is invalid for input of size 704"),
        ("w8a16", None),
    ]


def test_ours_may_not_fail_in_any_way(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *arguments: Any) -> LoadedModel:
        if name == "w8a16":
            raise ZeroDivisionError("a mistake of ours")
        return load_variant(name, *arguments)

    monkeypatch.setattr("quant.compare.load_variant", load)
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        compare(dataclasses.replace(request_, schemes=("w8a16",)))


def test_a_baseline_that_fails_is_an_error(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *arguments: Any) -> LoadedModel:
        raise QuantError("the disk is failing")

    monkeypatch.setattr("quant.compare.load_variant", load)
    with pytest.raises(QuantError, match="the disk is failing"):
        compare(request_)


@pytest.mark.parametrize("schemes", [("w8a17",), ("w8a16", ""), ()], ids=["unknown", "empty name", "none"])
def test_unknown_schemes_are_refused_before_anything_is_loaded(
    request_: Request, schemes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.compare.load_variant", lambda *_: pytest.fail("loaded a model"))
    with pytest.raises(QuantError, match="unknown scheme"):
        compare(dataclasses.replace(request_, schemes=schemes))
