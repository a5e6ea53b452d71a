"""The JSON schema that scripts rely on: its keys, its types, and nothing that is not JSON."""

import dataclasses
import json
from typing import Any, NoReturn

import pytest

from quant.records import Result
from quant.report.json_file import SCHEMA, comparison_json, sizing_json
from tests.unit.report.samples import COMPARISON, SIZING, SIZING_ALONE

COMPARISON_KEYS = {"schema", "environment", "model", "prompt_tokens", "new_tokens", "results"}
ENVIRONMENT_KEYS = {
    "tokens_sha256",
    "scored_tokens",
    "window",
    "stride",
    "bos_id",
    "dtype",
    "batch_size",
    "device",
    "cpu",
    "threads",
    "versions",
    "processes",
}
INTEGERS = {
    "quantized_layers",
    "linear_layers",
    "footprint_bytes",
    "parameter_bytes",
    "buffer_bytes",
    "cpu_memory_bytes",
    "gpu_memory_bytes",
    "offloaded_bytes",
}
NUMBERS = {
    "perplexity",
    "perplexity_difference",
    "perplexity_relative_change",
    "perplexity_ratio",
    "kl_mean",
    "top1_agreement",
    "load_seconds",
    "generate_seconds",
    "prefill_tokens_per_second",
    "tokens_per_second",
    "times_smaller",
    "times_faster",
}
INTERVALS = {"perplexity_ratio_ci", "kl_mean_ci"}
RESULT_KEYS = (
    INTEGERS
    | NUMBERS
    | INTERVALS
    | {"scheme", "error", "block_size", "scale", "bytes_by_dtype", "interval_note", "generated"}
)
INSPECTION_KEYS = {
    "parameter_bytes",
    "buffer_bytes",
    "total_bytes",
    "bytes_by_dtype",
    "layer_types",
    "linear_layers",
    "quantized_layers",
    "quantized_layer",
}


def strict(text: str) -> dict[str, Any]:
    """Parse; NaN and Infinity, which Python would take, fail."""

    def refuse(name: str) -> NoReturn:
        pytest.fail(f"{name} is not JSON")

    assert text.endswith("}\n")
    record: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return record


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def test_the_documented_keys_are_there() -> None:
    """Keys are only ever added: one that is missing here breaks a script, one that is new belongs into these sets."""
    record = strict(comparison_json(COMPARISON))
    assert record["schema"] == SCHEMA == 1
    assert set(record) == COMPARISON_KEYS
    assert set(record["environment"]) == ENVIRONMENT_KEYS
    assert all(set(result) == RESULT_KEYS for result in record["results"])


def test_records_come_in_order_with_their_values() -> None:
    record = strict(comparison_json(COMPARISON))
    assert (record["model"], record["prompt_tokens"], record["new_tokens"]) == ("my-model", 64, 32)
    assert record["environment"] == {**dataclasses.asdict(COMPARISON.environment), "processes": 2}
    assert [result["scheme"] for result in record["results"]] == ["baseline", "w8a16", "nf4", "bnb-nf4"]
    expected = dataclasses.asdict(COMPARISON.results[1])
    assert record["results"][1] == {**expected, "perplexity_ratio_ci": [0.9999, 1.0001], "kl_mean_ci": [3e-5, 3.5e-5]}


def test_integers_are_integers_and_numbers_are_numbers() -> None:
    baseline, int8, *_ = strict(comparison_json(COMPARISON))["results"]
    for result in (baseline, int8):
        assert all(is_integer(result[key]) for key in INTEGERS)
        assert all(is_integer(size) for size in result["bytes_by_dtype"].values())
    assert all(isinstance(int8[key], float) for key in NUMBERS)
    assert all(isinstance(bound, float) for key in INTERVALS for bound in int8[key])


def test_infinite_and_undefined_numbers_are_null() -> None:
    infinite = strict(comparison_json(COMPARISON))["results"][2]
    assert [infinite[key] for key in ("perplexity", "perplexity_ratio", "kl_mean")] == [None, None, None]
    assert infinite["perplexity_ratio_ci"] == [1.5, None]
    assert infinite["top1_agreement"] == 0.0


def test_a_scheme_that_was_not_measured_has_its_error_and_nothing_else() -> None:
    missing = strict(comparison_json(COMPARISON))["results"][3]
    assert missing["error"].startswith("bnb-nf4 needs bitsandbytes")
    assert {key for key, value in missing.items() if value} == {"scheme", "error"}


def test_text_outside_ascii_survives() -> None:
    odd = dataclasses.replace(COMPARISON, results=(Result("baseline", generated="naïve \ud800 \x00 \u2028 日本"),))
    assert strict(comparison_json(odd))["results"][0]["generated"] == "naïve \ud800 \x00 \u2028 日本"
    comparison_json(odd).encode("utf-8")


def test_a_sizing_has_integer_bytes_before_and_after() -> None:
    record = strict(sizing_json(SIZING))
    assert set(record) == {"schema", "model", "dtype", "scheme", "before", "after", "left"}
    assert (record["schema"], record["model"], record["dtype"], record["scheme"]) == (
        1,
        "phi-3-mini",
        "float32",
        "w8a16",
    )
    for side in (record["before"], record["after"]):
        assert set(side) == INSPECTION_KEYS
        assert all(is_integer(side[key]) for key in ("parameter_bytes", "buffer_bytes", "total_bytes", "linear_layers"))
        assert (
            side["total_bytes"]
            == side["parameter_bytes"] + side["buffer_bytes"]
            == sum(side["bytes_by_dtype"].values())
        )
    assert record["after"]["parameter_bytes"] == 4_416_745_472
    assert record["after"]["quantized_layer"] == {"weight": "int8 [64, 128]", "weight_scale": "float32 [64]"}
    assert record["left"] == {"lm_head": "output head"}


def test_a_sizing_without_scheme_has_no_after() -> None:
    record = strict(sizing_json(SIZING_ALONE))
    assert (record["scheme"], record["after"], record["left"]) == (None, None, {})
