"""The file of measured ratios: written by `measure`, read by the gate.

It keeps the ratio of every run, and nothing that follows from them but for readers' sake: limits are computed anew
when it is read, and a file that does not read as it would be written has been edited and is refused.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.gating.machine import Key, differences
from tests.benchmarks.gating.ratios import ALPHA, Measured, Series, file_of, limits, scatters

RATIOS = Path("tests/benchmarks/ratios.json")
"""The file of this repository, from its root."""

SCHEMA = 2

Machine = dict[str, Any]
"""{"key": ..., "provenance": ..., "groups": {group: {...}}, "ratios": {name: {"values": [...], ...}}}

Of each ratio group and denominator: of its pair; values: in every run; spread: the largest over the smallest, less 1;
and what follows for one more run, measured, stale_below, limit, catches: `Measured`'s center, low, high and catches. Of
each group deviation and degrees: `Scatter`'s.
"""


def machine_record(key: Key, provenance: Mapping[str, Any], measured: Mapping[str, Series]) -> Machine:
    """What was measured on one machine. measured: by the names of the ratios."""
    rounded = {
        name: replace(each, values=tuple(significant(value, 4) for value in each.values))
        for name, each in measured.items()
    }
    bounds = limits(rounded)
    return {
        "key": dict(key),
        "provenance": dict(provenance),
        "groups": {
            group: {"deviation": significant(scatter.deviation, 3), "degrees": scatter.degrees}
            for group, scatter in scatters(rounded).items()
        },
        "ratios": {name: ratio_record(each, bounds[name]) for name, each in rounded.items()},
    }


def ratio_record(series: Series, bounds: Measured) -> dict[str, Any]:
    figures = {"measured": bounds.center, "stale_below": bounds.low, "limit": bounds.high}
    return {
        "group": series.group,
        "denominator": series.denominator,
        "values": list(series.values),
        "spread": significant(max(series.values) / min(series.values) - 1, 3),
        **{field: significant(value, 4) for field, value in figures.items()},
        "catches": significant(bounds.catches, 3),
    }


def significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def series_of(machine: Machine) -> dict[str, Series]:
    """Name of a ratio -> what was measured, of which everything else in a record follows."""
    return {
        name: Series(tuple(ratio["values"]), ratio["group"], ratio["denominator"])
        for name, ratio in machine["ratios"].items()
    }


def render(machines: Sequence[Machine]) -> str:
    """The text of the file, the same for the same measurements."""
    return json.dumps({"schema": SCHEMA, "false_alarms_per_run": ALPHA, "machines": machines}, indent=1) + "\n"


def read(path: Path) -> list[Machine]:
    """All machines of the file; none if there is no file.

    Raises:
        ValueError: if it was edited.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError(f"of schema {document['schema']}, and {SCHEMA} is what is read")
        machines = [
            machine_record(machine["key"], machine["provenance"], series_of(machine))
            for machine in document["machines"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a file of ratios ({error}): {REMEDY}") from error
    if render(machines) != text:
        raise ValueError(f"{path} does not read as it is written, so it was edited by hand: {REMEDY}")
    return machines


REMEDY = "restore it, or delete it and measure anew with python -m tests.benchmarks.gating.measure"


def limits_of(
    machines: Sequence[Machine], key: Key, files: Collection[str] | None = None
) -> dict[str, Measured] | None:
    """Name -> what was measured under this key, of ratios to benchmarks in `files` or of all; None if nothing was."""
    for machine in machines:
        if not differences(key, machine["key"]):
            series = series_of(machine)
            found = limits(series)
            return {name: found[name] for name in found if files is None or file_of(series[name].denominator) in files}
    return None


def write(path: Path, machine: Machine) -> None:
    """Put `machine` in the place of what the file has for its key, or at the end."""
    others = [other for other in read(path) if differences(machine["key"], other["key"])]
    path.write_text(render([*others, machine]), encoding="utf-8")
