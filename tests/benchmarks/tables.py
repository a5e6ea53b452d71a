"""`python -m tests.benchmarks.tables FILE [LAYER]`: a run's JSON as Markdown, for one layer or for everything."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [row(header), row(["---", *["---:"] * (len(header) - 1)]), *map(row, rows), ""]


def milliseconds(benchmark: dict[str, Any]) -> str:
    return f"{1e3 * benchmark['stats']['median']:.3g}"


def linear_table(benchmarks: Sequence[dict[str, Any]]) -> list[str]:
    """Milliseconds and, in brackets, times as fast as nn.Linear in bfloat16; a column for each number of rows of x."""
    rows = sorted({b["extra_info"]["rows"] for b in benchmarks})
    names = list(dict.fromkeys(b["extra_info"]["name"] for b in benchmarks))
    cells = {(b["extra_info"]["name"], b["extra_info"]["rows"]): b for b in benchmarks}
    body = []
    for name in names:
        found = [cells.get((name, count)) for count in rows]
        times = [f"{milliseconds(b)} ({b['extra_info'].get('vs_bf16', math.nan):.2f})" if b else "-" for b in found]
        share = found[0]["extra_info"].get("read_share") if found[0] else None
        body.append([name, *times, f"{100 * share:.0f} %" if share else "-"])
    return table(["rows of x", *map(str, rows), f"of reading, {rows[0]} row"], body)


def other_tables(benchmarks: Sequence[dict[str, Any]]) -> list[str]:
    """One table per group: milliseconds and what each benchmark noted."""
    lines = []
    for group in dict.fromkeys(b["group"] for b in benchmarks):
        members = [b for b in benchmarks if b["group"] == group]
        notes = list(dict.fromkeys(note for b in members for note in b["extra_info"] if note != "name"))
        body = [
            [b["extra_info"]["name"], milliseconds(b), *(f"{b['extra_info'].get(note, 0):.2f}" for note in notes)]
            for b in members
        ]
        lines += [f"**{group}**", "", *table(["", "ms", *(note.replace("_", " ") for note in notes)], body)]
    return lines


def markdown(run: dict[str, Any], only: str = "") -> str:
    """All tables of a run, or those of one layer, with the machine below."""
    layers: dict[str, list[dict[str, Any]]] = {}
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
