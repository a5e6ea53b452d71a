"""Which runs are not compared, and what is told of those that are."""

import math
from dataclasses import replace
from typing import Any

import pytest

from quant.diff import diff
from quant.errors import QuantError
from quant.records import Comparison
from tests.unit.diff.runs import RUN, moved, verdicts, with_result
from tests.unit.report.samples import ENVIRONMENT, WINDOW_TOKENS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens_sha256", "cd" * 32),
        ("scored_tokens", 12_346),
        ("window", 128),
        ("stride", 64),
        ("bos_id", None),
        ("dtype", "bfloat16"),
    ],
)
def test_other_text_or_windows_are_refused_unless_sizes_alone_are_asked_for(field: str, value: Any) -> None:
    other = replace(RUN, environment=replace(ENVIRONMENT, **{field: value}))
    with pytest.raises(QuantError, match=f"cannot be compared, they differ in {field}: .*--sizes-only"):
        diff(RUN, other)
    found = diff(RUN, with_result(1, other, footprint_bytes=12_000_001), sizes_only=True)
    assert verdicts(found) == {"baseline": [("footprint", "pass")], "w8a16": [("footprint", "regression")]}
    assert found.notes[0].startswith(f"accuracy was not judged, not comparable: {field}: ")


def test_other_windows_of_the_same_fingerprint_are_refused() -> None:
    with pytest.raises(QuantError, match="they differ in the tokens of each window"):
        diff(RUN, replace(RUN, window_tokens=(345, *(500,) * 24)))


@pytest.mark.parametrize("name", ["window_losses", "window_kl"])
def test_a_record_of_an_older_version_is_refused_unless_sizes_alone_are_asked_for(name: str) -> None:
    changes: dict[str, Any] = {name: None}
    old = with_result(1, RUN, **changes)
    with pytest.raises(QuantError, match=f"w8a16 has no {name}, .*: the record is of an older version"):
        diff(old, RUN)
    assert diff(old, RUN, sizes_only=True).notes == ("accuracy was not judged",)


def few(run: Comparison) -> Comparison:
    """Its first 19 windows."""
    cut = [
        replace(
            r, window_losses=(r.window_losses or ())[:19], window_kl=None if r.window_kl is None else r.window_kl[:19]
        )
        for r in run.results
    ]
    environment = replace(ENVIRONMENT, scored_tokens=9500)
    return replace(run, results=tuple(cut), window_tokens=WINDOW_TOKENS[:19], environment=environment)


def test_too_few_windows_are_refused_unless_nothing_changed() -> None:
    assert not diff(few(RUN), few(RUN)).regressed
    with pytest.raises(QuantError, match=r"w8a16: perplexity ratio .*19 windows are too few"):
        diff(few(RUN), few(moved(1.0)))


def test_speeds_of_other_conditions_are_refused() -> None:
    versions = {**ENVIRONMENT.versions, "torch": "2.14.0"}
    others = {
        "cpu: A CPU, 2 cores, AVX2 and B": replace(RUN, environment=replace(ENVIRONMENT, cpu="B")),
        "threads: 2 and 8": replace(RUN, environment=replace(ENVIRONMENT, threads=8)),
        "device: cpu and H100": replace(RUN, environment=replace(ENVIRONMENT, device="H100")),
        "torch: 2.13.0 and 2.14.0": replace(RUN, environment=replace(ENVIRONMENT, versions=versions)),
        "new_tokens: 32 and 64": replace(RUN, new_tokens=64),
        "prompt_tokens: 64 and 8": replace(RUN, prompt_tokens=8),
        "processes: 2 and 1": replace(RUN, processes=1),
    }
    for what, other in others.items():
        with pytest.raises(QuantError, match=f"speeds of these runs cannot be compared, they differ in {what}: "):
            diff(RUN, other, max_slowdown=0.2)
        if not what.startswith("device"):
            assert not diff(RUN, other).regressed
    with pytest.raises(QuantError, match="w8a16 has no decoding speed"):
        diff(RUN, with_result(1, tokens_per_second=None), max_slowdown=0.2)


@pytest.mark.parametrize(("then", "now"), [("cpu", "H100"), ("H100", "cpu")])
def test_a_cpu_is_not_held_to_a_gpu(then: str, now: str) -> None:
    before, after = (replace(RUN, environment=replace(ENVIRONMENT, device=device)) for device in (then, now))
    with pytest.raises(QuantError, match=f"accuracy .* differ in device: {then} and {now}, .* not on GPUs"):
        diff(before, after)
    assert (
        diff(before, after, sizes_only=True)
        .notes[0]
        .startswith(f"accuracy was not judged, not comparable: device: {then}")
    )
    gpu, other = (replace(RUN, environment=replace(ENVIRONMENT, device=device)) for device in ("H100", "A100"))
    assert not diff(gpu, other).regressed


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.2, 20.0, math.nan])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(QuantError, match="is no limit"):
        diff(RUN, RUN, max_slowdown=limit)


def test_how_the_runs_differ_is_told() -> None:
    environment = replace(ENVIRONMENT, threads=8, versions={"python": "3.11.7", "torch": "2.14.0", "new": "1"})
    other = with_result(1, replace(RUN, environment=environment, model="other"), block_size=128, scale="mse")
    assert diff(RUN, other).notes == (
        "the models have different names: my-model and other",
        "measured under different conditions: threads: 2 and 8; torch: 2.13.0 and 2.14.0; new: none and 1",
        "w8a16 was in blocks of None, and is in blocks of 128",
        "w8a16 had its scales from None, and has them from mse",
    )
