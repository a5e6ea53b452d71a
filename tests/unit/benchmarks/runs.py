"""Runs as pytest-benchmark stores them, made up."""

from typing import Any

KEY = {"cpu": "A", "threads": 2, "torch": "2.13.0", "kernels": "avx512", "gpu": None, "driver": None, "cuda": None}

SOFTWARE = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "bitsandbytes": None}


def run(times: dict[str, float], extra: dict[str, Any] | None = None, **key: Any) -> dict[str, Any]:
    """A run whose rounds all take as long, by test id, the same `extra` noted by each, on the machine `KEY` but for
    `key`.
    """
    benchmarks = [
        {"fullname": name, "stats": {"q1": time, "median": time}, "extra_info": dict(extra or {})}
        for name, time in times.items()
    ]
    return {
        "machine_info": {"quant": {**KEY, **key}, "software": dict(SOFTWARE)},
        "benchmarks": benchmarks,
        "datetime": "2026-01-02T03:04:05",
        "commit_info": {"id": "c0ffee", "dirty": False},
    }
