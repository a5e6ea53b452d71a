"""Records as JSON, in a schema that scripts can rely on: keys are only ever added, and `schema` counts the times that
is not so.

Numbers that JSON does not have (an infinite perplexity) become null.
"""

import json
import math
import re
from dataclasses import asdict
from typing import Any

from quant.checkpoint.summary import Summary
from quant.diff import Diff
from quant.inspection import Inspection, Sizing
from quant.records import Comparison, Result

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
            "command": comparison.command,
            "window_tokens": comparison.window_tokens,
            "positions": [asdict(position) for position in comparison.positions],
            "results": [asdict(result) for result in comparison.results],
        }
    )


def diff_json(diff: Diff) -> str:
    """`{"schema": 1, "regressed": false, "schemes": [{"scheme": ..., "verdict": ..., "checks": [{"name": ...,
    "verdict": ..., "text": ...}], "before": {...}, "after": {...}}], ...}`; before and after are the single numbers of
    a record, or null where there is none.
    """
    return dump(
        {
            "schema": SCHEMA,
            "regressed": diff.regressed,
            "before": _described(diff.before),
            "after": _described(diff.after),
            "notes": diff.notes,
            "schemes": [
                {
                    "scheme": scheme.scheme,
                    "verdict": None if scheme.verdict is None else scheme.verdict.value,
                    "perplexity_change": scheme.perplexity_change,
                    "kl_change": scheme.kl_change,
                    "speed_change": scheme.speed_change,
                    "checks": [
                        {"name": c.name, "verdict": c.verdict.value, "changed": c.changed, "text": c.text}
                        for c in scheme.checks
                    ],
                    "before": _figures(scheme.before),
                    "after": _figures(scheme.after),
                }
                for scheme in diff.schemes
            ],
        }
    )


def _described(comparison: Comparison) -> dict[str, Any]:
    environment = {**asdict(comparison.environment), "processes": comparison.processes}
    return {"model": comparison.model, "environment": environment}


def _figures(result: Result | None) -> dict[str, float | None] | None:
    """The single numbers of a record."""
    if result is None:
        return None
    return {name: value for name, value in asdict(result).items() if isinstance(value, int | float)}


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
    text = json.dumps(_finite(record), indent=2, allow_nan=False)
    # A line for each list of numbers, instead of one for each number. No string in JSON holds a line break.
    return re.sub(r'\[\n\s+([^\[\]{}"]*?)\n\s+\]', _on_one_line, text) + "\n"


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(line.strip() for line in found[1].splitlines())}]"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
