"""Dataclasses from what JSON holds. Their annotations are the schema: what a field may hold follows from them.

Two kinds of files are read. Of one that other versions may have written (`quant compare --json`), fields that were
added later take their defaults where the file has none of them, fields that a newer version added are left out, and
null stands for a number that JSON does not have where there must be one, and becomes NaN. A `strict` one has every
field and no other, and its numbers are finite.

An int may stand for a float, as JSON has one kind of number; a bool is neither.
"""

import collections.abc
import dataclasses
import functools
import json
import math
import sys
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def dataclass_of(kind: type[T], value: Any, where: str = "", *, strict: bool = False) -> T:
    """A `kind` from a table of its fields; where: the place in the file, for messages.

    Raises:
        ValueError: a field is missing or holds something else, or (strict) there is one too many; by its place.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is no table")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    unknown = sorted(value.keys() - {field.name for field in fields}) if strict else []
    if unknown:
        raise ValueError(f"{where}{unknown[0]} is no field")
    hints = _hints(typing.cast(Any, kind))
    found = {}
    for field in fields:
        place = f"{where}{field.name}"
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], place, strict)
        elif strict or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING):
            raise ValueError(f"{place} is missing")
    return kind(**found)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(kind: Any, value: Any, where: str, strict: bool) -> Any:
    """`value` as `kind`, an annotation of a record's field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where, strict)
    if dataclasses.is_dataclass(kind):
        return dataclass_of(typing.cast(type[Any], kind), value, f"{where}.", strict=strict)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}", strict) for key, item in value.items()}
    if origin in (tuple, collections.abc.Sequence) and isinstance(value, list):
        if origin is tuple and arguments[-1] is not ... and len(value) != len(arguments):
            raise ValueError(f"{where} holds {len(value)} values, not {len(arguments)}")
        return tuple(_value(arguments[0], item, f"{where}[{index}]", strict) for index, item in enumerate(value))
    if kind is float and _is_number(value, strict):
        return math.nan if value is None else float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    raise ValueError(f"{where} is {json.dumps(value)[:40]}")


def _is_number(value: Any, strict: bool) -> bool:
    if type(value) not in (int, float):
        return value is None and not strict
    return (type(value) is float and not strict) or abs(value) <= sys.float_info.max
