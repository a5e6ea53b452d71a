"""The figures of a run in the columns of the original report, for the summary and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quant.evaluate.fingerprint import Fingerprint
from tests.gpu.measuring import Record
from tests.gpu.references import REFERENCES

HEADER = ("scheme", "CPU GB", "GPU GB", "latency s", "perplexity", "change %", "KL nats", "top-1 %", "the original's")


def table(records: Sequence[Record], model: str) -> list[str]:
    """Lines of a table with a row for each record, the baseline among them; last, the first four figures as the
    original has them of `model`.
    """
    originals = REFERENCES[model]["original"]
    baseline = next(record.perplexity for record in records if record.measured is None)
    rows = [HEADER, *((*cells(record, baseline), " / ".join(originals.get(record.scheme, "-"))) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def cells(record: Record, baseline: float) -> tuple[str, ...]:
    """Scheme, peak memory of the CPU and of the GPU in GB, seconds of one generation, perplexity, and its accuracy
    against the `baseline` perplexity.
    """
    memory = (f"{size / 1e9:.2f}" for size in (record.cpu_bytes, record.gpu_bytes))
    accuracy = (
        f"{100 * (record.perplexity / baseline - 1):+.4f}",
        f"{mean_kl(record):.3g}",
        f"{100 * top1(record):.2f}",
    )
    return (record.scheme, *memory, f"{record.generation.seconds:.4f}", f"{record.perplexity:.6g}", *accuracy)


def mean_kl(record: Record) -> float:
    """KL divergence from the baseline in nats per token, 0 for the baseline itself."""
    measured = record.measured
    return 0.0 if measured is None or measured.kl is None else float(measured.kl.mean())


def top1(record: Record) -> float:
    """How often the baseline's best token is this one's, a fraction."""
    measured = record.measured
    return 1.0 if measured is None or measured.top1 is None else float(measured.top1.double().mean())


def write(path: Path, records: Sequence[Record], model: str, fingerprint: Fingerprint) -> None:
    """All of `records` as JSON into `path`, in a folder that is made. Bytes, seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"model": model, "environment": asdict(fingerprint), "results": [figures(record) for record in records]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def figures(record: Record) -> dict[str, Any]:
    """One record in plain types."""
    generation = record.generation
    return {
        "scheme": record.scheme,
        "parameter_bytes": record.size.parameter_bytes,
        "buffer_bytes": record.size.buffer_bytes,
        "cpu_memory_bytes": record.cpu_bytes,
        "gpu_memory_bytes": record.gpu_bytes,
        "load_seconds": record.load_seconds,
        "generate_seconds": generation.seconds,
        "prefill_tokens_per_second": generation.prefill_tokens_per_second,
        "tokens_per_second": generation.decode_tokens_per_second,
        "perplexity": record.perplexity,
        "kl_mean": mean_kl(record),
        "top1_agreement": top1(record),
    }
