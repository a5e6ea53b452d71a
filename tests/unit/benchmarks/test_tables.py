"""A run's JSON as Markdown: what is compared comes from the whole run, whatever order its benchmarks ran in."""

import random
from typing import Any

import pytest

from quant import variants
from tests.benchmarks import competitors, tables, test_quantizing
from tests.unit.benchmarks.runs import KEY


def benchmark(group: str, name: str, median: float, **noted: Any) -> dict[str, Any]:
    return {"group": group, "stats": {"median": median, "q1": 0.9 * median}, "extra_info": {"name": name, **noted}}


def layer(name: str, rows: int, median: float) -> dict[str, Any]:
    return benchmark(f"o 4x2, {rows} rows", name, median, layer="o", rows=rows)


LAYERS = [
    layer("linear-bf16", 1, 0.008),
    layer("linear-bf16", 16, 0.009),
    layer("read-int8", 1, 0.001),
    layer("w8a16", 1, 0.002),
    layer("w8a16", 16, 0.006),
]
QUANTIZING = [
    benchmark("quantize to nf4", "torch", 0.03, phi3_seconds=3.0, vs_torch=1.0),
    benchmark("quantize to nf4", "native", 0.012, phi3_seconds=1.2),
    benchmark("quantize to int4", "torch", 0.5, phi3_seconds=7.0, vs_torch=1.0),
]
GENERATING = [
    benchmark("generate", "baseline", 0.06, tokens_per_second=500.0, vs_baseline=1.0),
    benchmark("generate", "nf4", 0.04, tokens_per_second=750.0),
]


def rows_of(benchmarks: list[dict[str, Any]]) -> dict[str, list[str]]:
    """First cell -> the others, of all tables."""
    run = {"benchmarks": benchmarks, "machine_info": {"quant": KEY}, "datetime": "2026-01-02T03:04:05"}
    lines = [line for line in tables.markdown(run).splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in lines)}


@pytest.mark.parametrize("seed", range(4))
def test_times_as_fast_are_of_the_run_and_not_of_its_order(seed: int) -> None:
    """By hand: 8 ms over 2, 9 over 6, reading 1 ms over 2; 30 ms over 12, by its own group's torch; 60 ms over 40."""
    shuffled = [*LAYERS, *QUANTIZING, *GENERATING]
    random.Random(seed).shuffle(shuffled)
    rows = rows_of(shuffled)
    assert rows["linear-bf16"] == ["8 (1.00)", "9 (1.00)", "-"]
    assert rows["w8a16"] == ["2 (4.00)", "6 (1.50)", "50 %"]
    assert rows["read-int8"] == ["1 (8.00)", "-", "-"]
    assert set(rows["nf4"]) == {"40", "750.00", "1.50"}
    assert set(rows["native"]) == {"12", "1.20", "2.50"}


def test_what_there_is_nothing_to_compare_with_is_a_dash() -> None:
    """Neither nan nor 0.00, which are figures: without what is compared with, and where a benchmark noted nothing."""
    rows = rows_of([LAYERS[1], *LAYERS[3:], QUANTIZING[1], benchmark("quantize to nf4", "other", 0.5, vs_torch=9.0)])
    assert rows["w8a16"] == ["2 (-)", "6 (1.50)", "-"]
    assert rows["native"] == ["12", "1.20", "-"]
    assert rows["other"] == ["500", "-", "-"]


def test_what_is_compared_with_has_the_name_that_it_has_where_it_is_timed() -> None:
    assert tables.READ == competitors.READS
    assert tables.BESIDE["vs_bf16"] == competitors.BASELINE
    assert tables.BESIDE["vs_baseline"] == variants.BASELINE
    assert tables.BESIDE["vs_torch"] in test_quantizing.WAYS
