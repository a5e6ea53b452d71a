"""Loading a variant as its users do: how long it takes, how much memory, and whether its size is the calculated one.

Files are mapped, not read, and their pages are only fetched when a layer first computes with them. So loading ends with
the first token's forward, timed apart.
"""

import time
from pathlib import Path
from typing import Any

import torch

from quant.evaluate.footprint import footprint
from quant.integrations import bitsandbytes
from quant.integrations.transformers import build_on_meta, load_config, quiet_transformers
from quant.selection import select
from quant.variants import count_layers, included_by, quantize_as, scheme_of
from tests.full_size.system import cached_share, memory, weight_files
from tests.full_size.variants import VARIANTS, Task


def load(task: Task) -> tuple[Any, dict[str, Any]]:
    """The model of `task`, and what loading it took: cached_share of its files before; seconds; first_forward_seconds;
    footprint_bytes, and the same calculated (None for bitsandbytes' formats); memory before and after both.

    Raises:
        FileNotFoundError: it was not quantized yet.
        RuntimeError: it holds another number of bytes than calculated, or of quantized layers.
    """
    variant = VARIANTS[task.variant]
    dtype = getattr(torch, variant.dtype)
    config, expected = None, None
    if variant.scheme in bitsandbytes.NAMES:
        config = bitsandbytes.quantization_config(str(variant.scheme), dtype)
    else:  # before the clock runs, for it imports what loading would import
        expected = calculated_bytes(Path(task.folder), dtype, variant.scheme)
    folder = Path(task.quantized or task.folder)
    files = weight_files(folder)
    if not files:
        raise FileNotFoundError(f"{folder} has no safetensors: measure the part quantize first, or use --in-memory")
    record: dict[str, Any] = {"cached_share": cached_share(files), "memory_before": memory()}
    began = time.perf_counter()
    model = _from_pretrained(folder, dtype, config)
    if variant.is_ours and task.quantized is None:
        quantize_as(str(variant.scheme), model)
    record |= {"seconds": time.perf_counter() - began, "memory": memory()}
    held = footprint(model).total_bytes, count_layers(model)[0]
    if expected is not None and held != expected:
        raise RuntimeError(
            f"{task.variant}: loaded are {held[0]} bytes and {held[1]} quantized layers, calculated {expected[0]} and "
            f"{expected[1]}"
        )
    record |= {"footprint_bytes": held[0], "calculated_bytes": None if expected is None else expected[0]}
    began = time.perf_counter()
    with torch.inference_mode():
        model(torch.tensor([[3]]))
    return model, record | {"first_forward_seconds": time.perf_counter() - began, "memory_after_forward": memory()}


def _from_pretrained(folder: Path, dtype: torch.dtype, quantization_config: Any) -> Any:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    # As a user calls it: where None is passed, transformers takes a quantized checkpoint for a float one.
    options = {} if quantization_config is None else {"quantization_config": quantization_config}
    with quiet_transformers():
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True, **options)
    if any(info.values()):
        raise RuntimeError(f"{folder} does not hold what its configuration says: {info}")
    return model


def calculated_bytes(folder: Path, dtype: torch.dtype, scheme_name: str | None) -> tuple[int, int]:
    """Bytes that the model in `folder` must take in `dtype` under one of our schemes, from its configuration alone
    (what a scheme says of each layer it quantizes, and the rest as it is), and the number of those layers.
    """
    model = build_on_meta(load_config(folder), dtype)
    total = footprint(model).total_bytes
    scheme = None if scheme_name is None else scheme_of(scheme_name)
    if scheme is None:
        return total, 0
    chosen = select(model, included_by(str(scheme_name), model)).chosen
    for name in chosen:
        weight = model.get_submodule(name).weight
        total += scheme.storage_bytes(*weight.shape) - weight.nbytes
    return total, len(chosen)
