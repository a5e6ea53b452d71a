"""`python -m tests.benchmarks.tables FILE [LAYER]`: a run's JSON as Markdown, for one layer or for everything."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BESIDE = {"vs_bf16": "linear-bf16", "vs_baseline": "baseline", "vs_torch": "torch"}
"""What a benchmark notes itself to be so many times as fast as, by name within its group. What notes it had not run yet
in a session of another order, so here it is found in the whole run.
"""
READ = {"w8a16": "read-int8", "w8a16-fp32": "read-int8", "nf4": "read-nf4", "nf4-fp32": "read-nf4"}

Benchmark = dict[str, Any]


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [row(header), row(["---", *["---:"] * (len(header) - 1)]), *map(row, rows), ""]


def milliseconds(benchmark: Benchmark) -> str:
    return f"{1e3 * median(benchmark):.3g}"


def median(benchmark: Benchmark) -> float:
    seconds: float = benchmark["stats"]["median"]
    return seconds


def name_of(benchmark: Benchmark) -> str:
    name: str = benchmark["extra_info"]["name"]
    return name


def times_as_fast(benchmark: Benchmark, members: Sequence[Benchmark], name: str | None) -> float | None:
    """By medians; None if none of the group's `members` has that name."""
    beside = [median(member) for member in members if name_of(member) == name]
    return beside[0] / median(benchmark) if beside else None


def linear_table(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Milliseconds and, in brackets, times as fast as nn.Linear in bfloat16; a column for each number of rows of x."""
    rows = sorted({b["extra_info"]["rows"] for b in benchmarks})
    columns = [[b for b in benchmarks if b["extra_info"]["rows"] == count] for count in rows]
    body = []
    for name in dict.fromkeys(map(name_of, benchmarks)):
        found = [next((b for b in column if name_of(b) == name), None) for column in columns]
        times = [linear_cell(b, column) if b else "-" for b, column in zip(found, columns, strict=True)]
        share = times_as_fast(found[0], columns[0], READ.get(name)) if found[0] else None
        body.append([name, *times, "-" if share is None else f"{100 * share:.0f} %"])
    return table(["rows of x", *map(str, rows), f"of reading, {rows[0]} row"], body)


def linear_cell(benchmark: Benchmark, members: Sequence[Benchmark]) -> str:
    return f"{milliseconds(benchmark)} ({number(times_as_fast(benchmark, members, BESIDE['vs_bf16']))})"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def other_tables(benchmarks: Sequence[Benchmark]) -> list[str]:
    """One table per group: milliseconds and what each benchmark noted."""
    lines = []
    for group in dict.fromkeys(b["group"] for b in benchmarks):
        members = [b for b in benchmarks if b["group"] == group]
        notes = list(dict.fromkeys(note for b in members for note in b["extra_info"] if note != "name"))
        body = [[name_of(b), milliseconds(b), *(number(noted(b, members, note)) for note in notes)] for b in members]
        lines += [f"**{group}**", "", *table(["", "ms", *(note.replace("_", " ") for note in notes)], body)]
    return lines


def noted(benchmark: Benchmark, members: Sequence[Benchmark], note: str) -> float | None:
    """What `benchmark` noted under this name, or compares to, or None."""
    if note in BESIDE:
        return times_as_fast(benchmark, members, BESIDE[note])
    value: float | None = benchmark["extra_info"].get(note)
    return value


def markdown(run: dict[str, Any], only: str = "") -> str:
    """All tables of a run, or those of one layer, with the machine below."""
    layers: dict[str, list[Benchmark]] = {}
    others = []
    for benchmark in run["benchmarks"]:
        layer = benchmark["extra_info"].get("layer")
        if layer is None:
            others.append(benchmark)
        else:
            layers.setdefault(layer, []).append(benchmark)
    if only and only not in layers:
        raise SystemExit(f"no benchmarks of {only!r} in this run: it has {', '.join(layers) or 'no layers'}")
    lines = []
    for layer, members in layers.items():
        if only in ("", layer):
            lines += [f"**{members[0]['group'].split(',')[0]}**", "", *linear_table(members)]
    machine = run["machine_info"]["quant"]
    lines += [] if only else other_tables(others)
    lines.append(
        f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, {machine['kernels']} kernels; "
        f"medians of one run, {run['datetime'][:10]}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), *sys.argv[2:3]))
