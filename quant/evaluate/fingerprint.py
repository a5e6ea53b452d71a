"""What a measurement was made on and with, so that results of different things are never compared.

A perplexity means something only beside another one of the same tokens, windows and BOS rule; a time only beside one
from the same machine and software. `require_comparable` refuses the rest by name instead of printing a difference
that means nothing. How many processes shared the windows is no part of it: that changes no bit (`processes`).
"""

import importlib.metadata
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.evaluate.windows import TokenWindows

PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "accelerate", "quant")
INSTRUCTIONS = ("avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""Without which products of bfloat16 or of integers take several times as long, and which "AVX512" leaves open."""


@dataclass(frozen=True)
class Fingerprint:
    """Everything a result depends on besides the model.

    tokens_sha256, scored_tokens, window, stride, bos_id: the text as evaluated; dtype: of the unquantized model;
    batch_size: windows per call; device, cpu, threads, versions: where and with what it ran.
    """

    tokens_sha256: str
    scored_tokens: int
    window: int
    stride: int
    bos_id: int | None
    dtype: str
    batch_size: int
    device: str
    cpu: str
    threads: int
    versions: dict[str, str]


def take_fingerprint(windows: TokenWindows, dtype: torch.dtype, batch_size: int, device: str) -> Fingerprint:
    """The fingerprint of measuring on `windows` here and now; device: as `quant.evaluate.devices.device_names`."""
    return Fingerprint(
        tokens_sha256=windows.sha256,
        scored_tokens=windows.scored,
        window=windows.window,
        stride=windows.stride or windows._content,
        bos_id=windows.bos_id,
        dtype=dtype_name(dtype),
        batch_size=batch_size,
        device=device,
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version(), **_versions()},
    )


def require_comparable(a: Fingerprint, b: Fingerprint) -> None:
    """Check that two results may be compared.

    Raises:
        QuantError: naming each field that differs, with both values.
    """
    if details := differences(a, b):
        raise QuantError(f"these results cannot be compared, they differ in {details}: measure both in one run")


def differences(a: Fingerprint, b: Fingerprint) -> str:
    """The fields in which two fingerprints differ, with both values; empty where they are equal."""
    left, right = asdict(a), asdict(b)
    return "; ".join(f"{name}: {left[name]} and {right[name]}" for name in left if left[name] != right[name])


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    # The metadata of a CUDA wheel says 2.13.0, torch itself 2.13.0+cu130.
    return {**found, "torch": str(torch.__version__)}


def cpu_name() -> str:
    """The model, the cores, and the instructions: on virtual machines a model may be no more than a maker's name."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8", errors="replace")
        models, listed = (re.findall(rf"^{field}\s*: (.+)$", text, re.MULTILINE) for field in ("model name", "flags"))
        name = " ".join(models[0].split()) if models else name
        flags.update(*(line.split() for line in listed[:1]))
    instructions = [torch.backends.cpu.get_cpu_capability(), *(flag for flag in INSTRUCTIONS if flag in flags)]
    return f"{name}, {os.cpu_count()} cores, {' '.join(instructions)}"
