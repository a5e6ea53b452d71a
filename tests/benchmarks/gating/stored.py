"""Whether a run is worse than a stored one: the same benchmarks, their times, and what they noted in `extra_info`.

Runs are the dictionaries that pytest-benchmark writes. What cannot be compared counts as a regression.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks.gating.failures import Failure
from tests.benchmarks.gating.machine import Key, differences

Run = Mapping[str, Any]

HIGHER_IS_BETTER = {"tokens_per_second", "vs_baseline", "vs_bf16", "vs_torch", "read_share"}
LOWER_IS_BETTER = {"bytes", "peak_bytes", "phi3_seconds", "seconds_per_call"}
DESCRIPTIONS = {"rows"}
"""Numbers that say what was timed and must not change."""
EXACT = {"bytes": 0.0}
"""What is held without being asked for: percent by which it may get worse."""


class TimeCheck(Protocol):
    """What `--benchmark-compare-fail` parses to."""

    def fails(self, current: Mapping[str, float], compared: Mapping[str, float]) -> str | None:
        """What is wrong with these statistics, if anything."""


def machine_key(run: Run) -> Key:
    """Of a stored run; empty if it was stored without one, so that it differs from every key."""
    key: Key = run["machine_info"].get("quant", {})
    return key


def compare(run: Run, earlier: Run, checks: Sequence[TimeCheck], extra: Mapping[str, float]) -> list[Failure]:
    """Everything in which `run` falls behind `earlier`. extra: name in extra_info -> percent that it may get worse."""
    ours, theirs = by_name(run), by_name(earlier)
    lost = [f"{name}: in the stored run, but not in this one" for name in theirs if name not in ours]
    new = [f"{name}: in this run, but not in the stored one" for name in ours if name not in theirs]
    regressions = []
    for name in (name for name in ours if name in theirs):
        found = [check.fails(ours[name]["stats"], theirs[name]["stats"]) for check in checks]
        found += compare_extra(ours[name]["extra_info"], theirs[name]["extra_info"], {**EXACT, **extra})
        regressions += [f"{name}: {line}" for line in found if line]
    recorded = {field for benchmark in theirs.values() for field in benchmark["extra_info"]}
    unknown = extra.keys() - recorded
    regressions += [f"no benchmark of the stored run has {field!r} in its extra_info" for field in unknown]
    kinds = {"benchmark missing": lost, "benchmark not in the stored run": new, "regression": regressions}
    return [Failure(line, kind) for kind, found in kinds.items() for line in found]


def by_name(run: Run) -> dict[str, Any]:
    """Test id -> benchmark."""
    return {benchmark["fullname"]: benchmark for benchmark in run["benchmarks"]}


def compare_extra(ours: Mapping[str, Any], theirs: Mapping[str, Any], allowed: Mapping[str, float]) -> list[str]:
    """Failures of one benchmark's extra_info: a field that only one run has, a number of which nobody has said which
    way is better, and one that got worse by more than `allowed` percent.
    """
    failures = []
    for field in dict.fromkeys([*theirs, *ours]):
        if field not in ours or field not in theirs:
            failures.append(f"{field} is only in {'this' if field in ours else 'the stored'} run")
        elif not isinstance(theirs[field], (int, float)) or field in DESCRIPTIONS:
            if ours[field] != theirs[field]:
                failures.append(f"{field} is {ours[field]!r} and was {theirs[field]!r}")
        elif field not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
            failures.append(f"nothing says whether more or less of {field} is better: add it to {__name__}")
        elif field in allowed and worse_by(field, ours[field], theirs[field]) > allowed[field]:
            percent = worse_by(field, ours[field], theirs[field])
            failures.append(
                f"{field} is {ours[field]:.6g} and was {theirs[field]:.6g}: {percent:.1f} % worse, "
                f"{allowed[field]:g} % allowed"
            )
    return failures


def worse_by(field: str, now: float, before: float) -> float:
    """Percent, positive for worse: of a throughput, how much longer the same work takes; infinite for what is no number
    or compares with nothing.
    """
    new, old = (before, now) if field in HIGHER_IS_BETTER else (now, before)
    if not new < float("inf") or not old < float("inf"):
        return float("inf")
    return 100 * (new / old - 1) if old > 0 else float("inf") if new != old else 0.0


def read_run(path: Path) -> Run:
    """A run as pytest-benchmark stored it.

    Raises:
        ValueError: naming the file, if it is no such run.
    """
    try:
        run: Run = json.loads(path.read_text(encoding="utf-8"))
        machine_key(run), by_name(run)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a stored run ({error}): delete it") from error
    return run


def latest(folder: Path) -> tuple[Path, Run] | None:
    """The run with the highest number in `folder` that its own gate did not refuse.

    A refused run is stored like any other, but as what the next one is compared with it would let a regression pass
    that happened twice.
    """
    for path in sorted(folder.glob("[0-9]*_*.json"), key=lambda path: int(path.name.split("_")[0]), reverse=True):
        run = read_run(path)
        if not run.get("refused"):
            return path, run
    return None


def other_machines(storage: Path, key: Key) -> list[str]:
    """For each other key under `storage`, in which fields it differs from `key`."""
    newest = {path.parent: path for path in sorted(storage.glob("**/[0-9]*_*.json"))}
    found = []
    for folder, path in newest.items():
        differing = differences(key, machine_key(read_run(path)))
        if differing:
            found.append(f"{folder.relative_to(storage)} differs in {'; '.join(differing)}")
    return found
