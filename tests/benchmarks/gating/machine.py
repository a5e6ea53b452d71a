"""The machine key: what two timings must have in common before they may be compared.

Not the whole of what pytest-benchmark records, which differs with the momentary clock rate and would refuse everything.
Nor Python and the packages beside torch: what a new version of them does to the times is what a comparison may be for.
They are recorded beside the key, for the limits that come from several runs.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Key = Mapping[str, object]
"""cpu, threads, torch, kernels; gpu, driver and cuda are None without a GPU."""


def current_key() -> dict[str, object]:
    """The key of this process. Torch is imported here: sessions that take no timings do without it."""
    import torch  # noqa: PLC0415

    from quant import native  # noqa: PLC0415
    from quant.evaluate.fingerprint import cpu_name  # noqa: PLC0415

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "kernels": native.variant(),
        "gpu": ", ".join(gpus) or None,
        "driver": nvidia_driver(Path("/proc/driver/nvidia/version")) if gpus else None,
        "cuda": torch.version.cuda if gpus else None,
    }


def current_software() -> dict[str, str | None]:
    """The versions of Python and of the packages that are timed in this process; None for one that is not installed."""
    software: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("torch", "transformers", "bitsandbytes"):
        try:
            software[package] = version(package)
        except PackageNotFoundError:
            software[package] = None
    return software


def nvidia_driver(path: Path) -> str | None:
    """The version in `path`, whose first line is like "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15"."""
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", path.read_text(encoding="utf-8")) if path.exists() else None
    return found[1] if found else None


def differences(ours: Key, theirs: Key) -> list[str]:
    """'field: theirs there, ours here' for each field in which two keys differ; a field that one lacks differs."""
    return [
        f"{field}: {theirs.get(field, 'unknown')!r} there, {ours.get(field, 'unknown')!r} here"
        for field in dict.fromkeys([*ours, *theirs])
        if field not in ours or field not in theirs or ours[field] != theirs[field]
    ]


def folder_name(key: Key) -> str:
    """A folder for the runs of one key: the CPU, the GPU and torch for the reader, a digest of all fields."""
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:12]
    parts = [str(key[field]) for field in ("cpu", "gpu", "torch") if key.get(field)]
    return "-".join([*(re.sub(r"[^A-Za-z0-9.]+", "-", part)[:40].strip("-") for part in parts), digest])
