"""Records back from the JSON of `quant compare --json`, as they were.

The dataclasses of `quant.records` are the schema: what a field may hold follows from its annotation. Fields that were
added later take their defaults where a file has none of them, and fields that a newer version added are left out; so
every file of schema 1 can be read by every version. null stands for a number that JSON does not have where there must
be one, and becomes NaN.

Refused, by file and field: what is not JSON, another schema, fields that are missing or hold something else, and
windows that do not add up.
"""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from quant.errors import QuantError
from quant.records import Comparison
from quant.report.json_file import SCHEMA

T = TypeVar("T")


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
        comparison = _dataclass(Comparison, content, "")
        _check_whole(comparison)
    except (ValueError, OverflowError) as error:  # a whole number that no float holds
        raise QuantError(f"{path} is damaged ({error}): {_AGAIN}") from error
    return comparison


_AGAIN = "write it anew with quant compare --json"


def _dataclass(kind: type[T], value: Any, where: str) -> T:
    """A `kind` from a table of its fields; where: the place in the file, for the message of a ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is no table")
    hints = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        place = f"{where}{field.name}"
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{place} is missing")
    return kind(**found)


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, an annotation of a record's field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type[Any], kind), value, f"{where}.")
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not ... and len(value) != len(arguments):
            raise ValueError(f"{where} holds {len(value)} values, not {len(arguments)}")
        return tuple(_value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if kind is float and (value is None or type(value) in (int, float)):
        return math.nan if value is None else float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    raise ValueError(f"{where} is {json.dumps(value)[:40]}")


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
