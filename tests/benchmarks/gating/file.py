"""The file of measured ratios: written by `measure`, read by the gate.

It keeps the ratio of every run, and nothing that follows from them but for readers' sake: limits are computed anew
when it is read, and a file that does not read as it would be written has been edited and is refused.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.gating.machine import Key, differences
from tests.benchmarks.gating.ratios import ALPHA, Measured, bounds

RATIOS = Path("tests/benchmarks/ratios.json")
"""The file of this repository, from its root."""

Machine = dict[str, Any]
"""{"key": ..., "provenance": ..., "ratios": {name: {"values": [...], ...}}}

Of each ratio values: in every run; spread: the largest over the smallest, less 1; and what follows for one more run,
measured, stale_below, limit, catches: `Measured`'s center, low, high and catches.
"""


def machine_record(key: Key, provenance: Mapping[str, Any], values: Mapping[str, Sequence[float]]) -> Machine:
    """What was measured on one machine. values: name of a ratio -> its value in each run."""
    rounded = {name: [float(f"{value:.4g}") for value in found] for name, found in values.items()}
    ratios = {}
    for name, found in rounded.items():
        measured = bounds(found, ALPHA / len(rounded))
        figures = {"measured": measured.center, "stale_below": measured.low, "limit": measured.high}
        spread = max(found) / min(found) - 1
        ratios[name] = {
            "values": found,
            "spread": float(f"{spread:.3g}"),
            **{field: float(f"{value:.4g}") for field, value in figures.items()},
            "catches": float(f"{measured.catches:.3g}"),
        }
    return {"key": dict(key), "provenance": dict(provenance), "ratios": ratios}


def render(machines: Sequence[Machine]) -> str:
    """The text of the file, the same for the same measurements."""
    return json.dumps({"schema": 1, "false_alarms_per_run": ALPHA, "machines": machines}, indent=1) + "\n"


def read(path: Path) -> list[Machine]:
    """All machines of the file; none if there is no file.

    Raises:
        ValueError: if it was edited.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        machines = [
            machine_record(
                machine["key"],
                machine["provenance"],
                {name: ratio["values"] for name, ratio in machine["ratios"].items()},
            )
            for machine in json.loads(text)["machines"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a file of ratios ({error}): {REMEDY}") from error
    if render(machines) != text:
        raise ValueError(f"{path} does not read as it is written, so it was edited by hand: {REMEDY}")
    return machines


REMEDY = "restore it, or measure anew with python -m tests.benchmarks.gating.measure"


def limits_of(machines: Sequence[Machine], key: Key) -> dict[str, Measured] | None:
    """Name -> what was measured under this key; None if nothing was."""
    for machine in machines:
        if not differences(key, machine["key"]):
            ratios = machine["ratios"]
            return {name: bounds(ratio["values"], ALPHA / len(ratios)) for name, ratio in ratios.items()}
    return None


def write(path: Path, machine: Machine) -> None:
    """Put `machine` in the place of what the file has for its key, or at the end."""
    others = [other for other in read(path) if differences(machine["key"], other["key"])]
    path.write_text(render([*others, machine]), encoding="utf-8")
