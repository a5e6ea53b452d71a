"""Records as JSON, in a schema that scripts can rely on: keys are only ever added, and `schema` counts the times that
is not so.

Numbers that JSON does not have (an infinite perplexity) become null.
"""

import json
import math
from dataclasses import asdict
from typing import Any

from quant.checkpoint.summary import Summary
from quant.inspection import Inspection, Sizing
from quant.records import Comparison

SCHEMA = 1


def comparison_json(comparison: Comparison) -> str:
    """`{"schema": 1, "environment": {...}, "model": ..., "results": [{"scheme": ..., ...}]}`; fields as in `Result`."""
    return dump(
        {
            "schema": SCHEMA,
            "environment": {**asdict(comparison.environment), "processes": comparison.processes},
            "model": comparison.model,
            "prompt_tokens": comparison.prompt_tokens,
            "new_tokens": comparison.new_tokens,
            "results": [asdict(result) for result in comparison.results],
        }
    )


def sizing_json(sizing: Sizing) -> str:
    """`{"schema": 1, "model": ..., "scheme": ..., "before": {...}, "after": {...} or null}` with integer bytes."""
    return dump(
        {
            "schema": SCHEMA,
            "model": sizing.model,
            "dtype": sizing.dtype,
            "scheme": sizing.scheme,
            "before": _inspection(sizing.before),
            "after": None if sizing.after is None else _inspection(sizing.after),
            "left": sizing.left,
        }
    )


def summary_json(model: str, summary: Summary) -> str:
    """`{"schema": 1, "model": ..., "stored": {"method": ..., "bytes_by_dtype": {...}, ...}}`, fields of `Summary`."""
    return dump({"schema": SCHEMA, "model": model, "stored": asdict(summary)})


def _inspection(inspection: Inspection) -> dict[str, Any]:
    return {
        "parameter_bytes": inspection.size.parameter_bytes,
        "buffer_bytes": inspection.size.buffer_bytes,
        "total_bytes": inspection.size.total_bytes,
        "bytes_by_dtype": inspection.size.by_dtype,
        "layer_types": inspection.layer_types,
        "linear_layers": inspection.linear_layers,
        "quantized_layers": inspection.quantized_layers,
        "quantized_layer": inspection.example,
    }


def dump(record: dict[str, Any]) -> str:
    """The text of a file."""
    return json.dumps(_finite(record), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
