"""Records back from the JSON of `quant compare --json`, as they were.

The dataclasses of `quant.records` are the schema (`json_dataclass`). Fields that were added later take their defaults
where a file has none of them, and fields that a newer version added are left out; so every file of schema 1 can be read
by every version.

Refused, by file and field: what is not JSON, another schema, fields that are missing or hold something else, and
windows that do not add up.
"""

import json
from pathlib import Path

from quant.errors import QuantError
from quant.records import Comparison
from quant.report.json_dataclass import dataclass_of
from quant.report.json_file import SCHEMA


def read_comparison(path: Path) -> Comparison:
    """The comparison in `path`.

    Raises:
        QuantError: the file cannot be read, or is not what `quant compare --json` writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise QuantError(f"{path} cannot be read ({error.strerror}): check the file") from error
    except (ValueError, RecursionError) as error:
        raise QuantError(f"{path} is not valid JSON ({error}), it is damaged or half-written: {_AGAIN}") from error
    if not isinstance(content, dict) or "results" not in content or "schema" not in content:
        raise QuantError(f"{path} is not the record of a comparison: {_AGAIN}")
    if type(content["schema"]) is not int or content["schema"] != SCHEMA:
        raise QuantError(
            f"{path} has schema {content['schema']!r}, and this version reads {SCHEMA}: use the version that wrote it"
        )
    environment = content.get("environment")
    if isinstance(environment, dict):
        content["processes"] = environment.get("processes", 1)
    try:
        comparison = dataclass_of(Comparison, content)
        _check_whole(comparison)
    except ValueError as error:
        raise QuantError(f"{path} is damaged ({error}): {_AGAIN}") from error
    return comparison


_AGAIN = "write it anew with quant compare --json"


def _check_whole(comparison: Comparison) -> None:
    """Raises ValueError for records that do not fit together."""
    names = [result.scheme for result in comparison.results]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"results are of the schemes {', '.join(names) or '(none)'}")
    tokens = comparison.window_tokens
    if tokens and (min(tokens) < 1 or sum(tokens) != comparison.environment.scored_tokens):
        raise ValueError(f"window_tokens add up to {sum(tokens)} of {comparison.environment.scored_tokens}")
    for result in comparison.results:
        for name in ("window_losses", "window_kl"):
            values = getattr(result, name)
            if values is not None and len(values) != len(tokens):
                raise ValueError(f"{result.scheme}: {name} are {len(values)} for {len(tokens)} windows")
