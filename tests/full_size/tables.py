"""`python -m tests.full_size.tables OUT.json`: what `tests.full_size.measure` wrote, as tables in Markdown.

A speed is that of the median over all tokens of all rounds. A ratio is the median over rounds of the ratios within a
round, in which both were measured minutes apart.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.tables import table
from tests.full_size.variants import VARIANTS

LLAMA_CPP = {"Q8_0": {"prefill": 23.0, "decode": 5.8}, "Q4_0": {"prefill": 35.0, "decode": 13.9}}
"""Tokens per second of llama.cpp with a model of this size on the same kind of machine, 2 cores of a Zen 4, measured
elsewhere and in another run: an order of magnitude to compare with, where ratios of one run are exact.
"""
LIKE = {"w8a16": "Q8_0", "w8a16-full": "Q8_0", "nf4": "Q4_0", "nf4-dq": "Q4_0"}
"""Which format of llama.cpp holds its weights in as many bits."""
Records = Sequence[dict[str, Any]]
Seconds = Callable[[dict[str, Any]], float]


def decode_seconds(record: dict[str, Any]) -> float:
    """Of one token: median of a process."""
    return float(statistics.median(seconds for repeat in record["decode_seconds"] for seconds in repeat))


def prefill_seconds(tokens: int) -> Seconds:
    """Of `tokens` tokens: the median of a process."""
    return lambda record: statistics.median(record["prefill_seconds"][str(tokens)])


def overall(records: Records, seconds: Seconds) -> float:
    """Median over processes."""
    return statistics.median(map(seconds, records))


def ratio(records: Records | None, base: Records | None, seconds: Seconds) -> str:
    """How many times as fast as `base`, round by round."""
    if not records or not base:
        return "-"
    return f"{statistics.median(seconds(b) / seconds(r) for r, b in zip(records, base, strict=False)):.2f}"


def of_llama_cpp(name: str, what: str, speed: float) -> str:
    """How many times as fast as llama.cpp's format of as many bits."""
    return f"{speed / LLAMA_CPP[LIKE[name]][what]:.2f}" if name in LIKE else "-"


def quantizing_table(results: dict[str, Any]) -> list[str]:
    """Seconds and memory of the command, beside reading the files, an idle interpreter and its imports."""
    header = ["scheme", "s", "s to read", "of it cached", "peak MB", "bare Python", "with imports"]
    body = [
        [
            scheme,
            f"{result['seconds']:.1f}",
            f"{result['read_seconds']:.1f}",
            _share(result["cached_share"]),
            *(_mb(size) for size in (result["peak_bytes"], *result["bare_bytes"].values())),
            f"{result['bytes_in'] / 1e9:.2f}",
            f"{result['bytes_out'] / 1e9:.2f}",
        ]
        for scheme, result in results.items()
    ]
    return table([*header, "GB in", "GB out"], body)


def loading_table(results: dict[str, Records]) -> list[str]:
    """Seconds, memory and bytes; the latter are those calculated, or loading would have failed."""
    header = ["", "s to load", "of it cached", "s, first token", "peak MB", "own MB", "bytes", "calculated", "of bf16"]
    whole = results.get("bf16", [None])[0]
    body = []
    for name, records in results.items():
        loads = [record["loading"] for record in records]
        size, calculated = loads[0]["footprint_bytes"], loads[0].get("calculated_bytes")
        body.append([
            name,
            f"{statistics.median(load['seconds'] for load in loads):.1f}",
            _share(loads[0]["cached_share"]),
            f"{statistics.median(load['first_forward_seconds'] for load in loads):.1f}",
            _mb(max(load["memory_after_forward"]["peak"] for load in loads)),
            _mb(max(load["memory_after_forward"]["anonymous"] for load in loads)),
            f"{size:,}",
            "-" if calculated is None else f"{calculated:,}",
            f"{size / whole['loading']['footprint_bytes']:.3f}" if whole else "-",
        ])  # fmt: skip
    return table(header, body)


def generating_table(results: dict[str, Records], prompt: int, long_prompt: int) -> list[str]:
    """Tokens per second and the ratios that matter."""
    header = ["", f"prefill {prompt}", f"prefill {long_prompt}", "vs bf16", "vs llama.cpp", "decode", "vs float32"]
    body = []
    bf16, float32, w8a16 = (results.get(name) for name in ("bf16", "float32", "w8a16"))
    long = prefill_seconds(long_prompt)
    for name, records in results.items():
        prefill, decode = long_prompt / overall(records, long), 1 / overall(records, decode_seconds)
        body.append([
            name,
            f"{prompt / overall(records, prefill_seconds(prompt)):.1f}",
            f"{prefill:.1f}",
            ratio(records, bf16, long),
            of_llama_cpp(name, "prefill", prefill),
            f"{decode:.2f}",
            ratio(records, float32, decode_seconds),
            ratio(records, bf16, decode_seconds),
            ratio(records, w8a16, decode_seconds),
            of_llama_cpp(name, "decode", decode),
        ])  # fmt: skip
    for name, speeds in LLAMA_CPP.items():
        body.append(
            [f"llama.cpp {name}", "-", f"{speeds['prefill']:.1f}", "-", "-", f"{speeds['decode']:.2f}", *"----"]
        )
    return table([*header, "vs bf16", "vs w8a16", "vs llama.cpp"], body)


def compiled_table(results: dict[str, Records], eager: dict[str, Records]) -> list[str]:
    """Decoding with a static cache and one compiled graph, beside decoding as it is by default."""
    header = ["", "s, first call", "graphs", "compiled anew", "decode", "vs eager", "vs bf16 compiled"]
    body = [
        [
            name,
            f"{records[0]['first_call_seconds']:.1f}",
            str(records[0]["graphs"]),
            str(records[0]["recompiled"]),
            f"{1 / overall(records, decode_seconds):.2f}",
            ratio(records, eager.get(name), decode_seconds),
            ratio(records, results.get("bf16"), decode_seconds),
        ]
        for name, records in results.items()
    ]
    return table(header, body)


def outside_table(results: dict[str, Records]) -> list[str]:
    """Milliseconds of a decode step by where they go."""
    header = ["ms per token", "step", "linear layers", "head", "rest", "rest %", "linear layers in it"]
    body = []
    for name, (record, *_) in results.items():
        parts = [1e3 * record[f"{part}_seconds"] for part in ("step", "layer", "head", "outside")]
        cells = [f"{part:.1f}" for part in parts]
        body.append([name, *cells, f"{100 * parts[3] / parts[0]:.1f}", str(record["layers"])])
    return table(header, body)


def markdown(run: dict[str, Any]) -> str:
    """All tables of a run, those of parts that it has."""
    sizes, environment = run["sizes"], run["environment"]
    lines: list[str] = []
    for part, title, make in (
        ("quantize", "Quantizing on disk", quantizing_table),
        ("generate", "Loading", loading_table),
        (
            "generate",
            "Generating, tokens per second",
            lambda results: generating_table(results, sizes["prompt"], sizes["long_prompt"]),
        ),
        (
            "compile",
            "Static cache and torch.compile, tokens per second",
            lambda results: compiled_table(results, run.get("generate", {})),
        ),
        ("outside", "What is not linear layers", outside_table),
    ):
        if part in run:
            order = [name for name in VARIANTS if name in run[part]]
            lines += [f"**{title}**", "", *make({name: run[part][name] for name in order})]
    lines.append(
        f"{run['model']['name']}, {run['model']['bytes'] / 1e9:.2f} GB; {environment['cpu']}, {environment['threads']} "
        f"threads, OMP_WAIT_POLICY {environment['wait_policy']}, torch {environment['torch']}, "
        f"transformers {environment['transformers']}, {environment['kernels']} kernels; decoding "
        f"{sizes['new_tokens'] - 1} tokens after {sizes['prompt']}, {sizes['rounds']} rounds, {environment['date']}."
    )
    return "\n".join(lines)


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.0f} %"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
