"""Records survive the file, and a file that is not a record is refused by what is wrong with it."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.report.json_file import comparison_json
from quant.report.json_reader import read_comparison
from tests.unit.report.samples import COMPARISON

FINITE = dataclasses.replace(COMPARISON, results=(*COMPARISON.results[:2], COMPARISON.results[3]))


def written(folder: Path, text: str) -> Path:
    path = folder / "out.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_finite_records_come_back_as_they_were(tmp_path: Path) -> None:
    assert read_comparison(written(tmp_path, comparison_json(FINITE))) == FINITE


def test_what_is_not_finite_comes_back_as_undefined(tmp_path: Path) -> None:
    nf4 = read_comparison(written(tmp_path, comparison_json(COMPARISON))).results[2]
    assert (nf4.perplexity, nf4.perplexity_ratio, nf4.kl_mean) == (None, None, None)
    assert nf4.window_losses is not None
    assert nf4.window_losses[:-1] == COMPARISON.results[2].window_losses[:-1]  # type: ignore[index]
    assert math.isnan(nf4.window_losses[-1])
    assert nf4.perplexity_ratio_ci is not None
    assert nf4.perplexity_ratio_ci[0] == 1.5
    assert math.isnan(nf4.perplexity_ratio_ci[1])


def test_older_and_newer_files_of_the_schema_are_read(tmp_path: Path) -> None:
    """Keys are only ever added."""
    record = json.loads(comparison_json(FINITE))
    for key in ("window_tokens", "positions", "command"):
        del record[key]
    for result in record["results"]:
        for key in ("window_losses", "window_kl", "loss_by_position", "layer_sqnr", "generated_agrees"):
            del result[key]
    record["results"][0]["of a newer version"] = [1]
    record["of a newer version"] = {"x": None}
    found = read_comparison(written(tmp_path, json.dumps(record)))
    assert (found.window_tokens, found.positions, found.command, found.processes) == ((), (), None, 2)
    assert (found.results[1].window_losses, found.results[1].layer_sqnr) == (None, {})
    assert found.results[1].perplexity == FINITE.results[1].perplexity


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(values)


def change_result(index: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["results"][index].update(values)


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def dropping(record: dict[str, Any]) -> None:
        *way, last = path
        for step in way:
            record = record[step]
        del record[last]

    return dropping


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(schema=2), "has schema 2, and this version reads 1: use the version that wrote it"),
        (change(schema="1"), "has schema '1'"),
        (change(schema=True), "has schema True"),
        (change_result(1, perplexity=10**400), r"is damaged \(results\[1\]\.perplexity is 10000"),
        (drop("schema"), "out.json is not the record of a comparison"),
        (drop("results"), "is not the record of a comparison: write it anew"),
        (drop("model"), r"is damaged \(model is missing\)"),
        (drop("environment"), r"environment is missing"),
        (drop("environment", "window"), r"environment\.window is missing"),
        (drop("results", 1, "scheme"), r"results\[1\]\.scheme is missing"),
        (change(results=[]), r"results are of the schemes \(none\)"),
        (change(results=7), "results is 7"),
        (change_result(1, scheme="baseline"), "results are of the schemes baseline, baseline"),
        (change_result(1, footprint_bytes=1.5), r"results\[1\]\.footprint_bytes is 1\.5"),
        (change_result(1, footprint_bytes=True), r"results\[1\]\.footprint_bytes is true"),
        (change_result(1, perplexity="12"), r'results\[1\]\.perplexity is "12"'),
        (change_result(1, perplexity_ratio_ci=[1.0]), r"results\[1\]\.perplexity_ratio_ci holds 1 values, not 2"),
        (change_result(1, layer_sqnr={"x": [1]}), r"results\[1\]\.layer_sqnr\.x is \[1\]"),
        (change_result(1, window_losses=[1.0]), "w8a16: window_losses are 1 for 25 windows"),
        (change(window_tokens=[5, 5]), "window_tokens add up to 10 of 12345"),
        (change(positions=[3]), r"positions\[0\]\. is no table"),
    ],
)
def test_a_damaged_record_is_refused_by_field(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    record = json.loads(comparison_json(FINITE))
    damage(record)
    with pytest.raises(QuantError, match=message):
        read_comparison(written(tmp_path, json.dumps(record)))


@pytest.mark.parametrize("text", ["", "{", comparison_json(FINITE)[:-20], "[" * 100_000], ids=len)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(QuantError, match=r"out\.json is not valid JSON .*write it anew"):
        read_comparison(written(tmp_path, text))


@pytest.mark.parametrize("text", ["[]", "3", '{"schema": 1}'])
def test_json_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(QuantError, match="is not the record of a comparison"):
        read_comparison(written(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="cannot be read"):
        read_comparison(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(QuantError, match="is not valid JSON"):
        read_comparison(tmp_path / "binary.json")
