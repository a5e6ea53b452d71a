"""What transformers would do with the tensors of a checkpoint, told from the model's skeleton on the meta device.

`from_pretrained` looks up each tensor by the name of a parameter or buffer and casts it to the dtype that this one has
in the model: mostly the model's, float32 for what an architecture keeps so (its `_keep_in_fp32_modules`, of routers and
the like). `stored_dtypes` says the same for a conversion that never builds the model, and refuses what
`quant.integrations.transformers.load_model` refuses: tensors that are missing, unexpected or of another shape.

Refused as well are checkpoints that transformers loads by renaming or merging tensors (older or foreign layouts, and
mixtures of experts, whose experts are stored apart): which of their tensors are weights of which layer is known only to
the code that renames them. `save_pretrained` writes the names of the file that was loaded, so it takes its
`save_original_format=False` to get those of the model.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch

from quant.checkpoint.folder import Checkpoint
from quant.errors import QuantError

RENAMED = (
    "load it with from_pretrained and save it again with save_pretrained(..., save_original_format=False), which "
    "writes the names that the model has, or quantize it on load, with from_pretrained(..., quantization_config=...)"
)
MIXED_UP = f"the checkpoint and its config are mixed up, or of another layout: {RENAMED}"


def stored_dtypes(model: Any, checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Name of each tensor of `checkpoint` -> the dtype that it has once `from_pretrained(dtype=dtype)` has loaded it.

    Args:
        model: of the checkpoint's configuration, built in `dtype` on the meta device.

    Raises:
        QuantError: the checkpoint does not fit the model.
    """
    expected, stored = model.state_dict(), checkpoint.tensors
    check_present(model, checkpoint)
    ignored = _alternation(_ignored_patterns(model))
    kept = _alternation(_float32_patterns(model, dtype))
    dtypes = {}
    for name, tensor in stored.items():
        if name not in expected:
            if not ignored.search(name):
                raise QuantError(f"{tensor} is not one of {type(model).__name__}'s, of its config.json: {MIXED_UP}")
            dtypes[name] = tensor.dtype
            continue
        if tensor.shape != tuple(expected[name].shape):
            raise QuantError(
                f"{tensor} has shape {list(tensor.shape)}, the model of its config.json has "
                f"{list(expected[name].shape)}: {MIXED_UP}"
            )
        dtypes[name] = torch.float32 if kept.search(name) else expected[name].dtype
    return dtypes


def first_float_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """What `from_pretrained(dtype="auto")` takes where the configuration names no dtype: that of the first float
    tensor, by name, of the first file; float32 where there is none.
    """
    header = next(iter(checkpoint.files.values()))
    dtypes = [header.tensors[name].dtype for name in sorted(header.tensors)]
    return next((dtype for dtype in dtypes if dtype.is_floating_point and dtype.itemsize > 1), torch.float32)


def check_present(model: Any, checkpoint: Checkpoint, remedy: str = RENAMED) -> None:
    """Every parameter and every buffer that is saved is in the checkpoint under one of its names (tied ones have
    several).

    Raises:
        QuantError: one is not; the message ends with `remedy`.
    """
    stored = checkpoint.tensors
    ignored = _alternation(model._keys_to_ignore_on_load_missing or ())
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    for aliases in names.values():
        if not any(name in stored or ignored.search(name) for name in aliases):
            reason = f"it is half-written, or of another layout: {remedy}"
            raise QuantError(f"{checkpoint.folder}: the checkpoint has no tensor {aliases[0]}: {reason}")


def _ignored_patterns(model: Any) -> set[str]:
    """Of the tensors that `from_pretrained` passes over: the architecture's, and two that it knows by itself."""
    patterns = set(model._keys_to_ignore_on_load_unexpected or ())
    buffers = [name for name, _ in model.named_buffers()]
    if any(name.endswith("rotary_emb.inv_freq") for name in buffers):
        patterns.add(r"rotary_emb\.inv_freq")
    if any(name.endswith("position_ids") for name in buffers):
        patterns.add(r"(^|\.)position_ids$")
    return patterns


def _float32_patterns(model: Any, dtype: torch.dtype) -> set[str]:
    """Of the tensors that an architecture keeps in float32 when it is loaded in `dtype`; `*` is any run."""
    patterns: set[str] = set()
    if dtype == torch.float16:
        patterns.update(model._keep_in_fp32_modules or ())
    if dtype in (torch.float16, torch.bfloat16):
        patterns.update(model._keep_in_fp32_modules_strict or ())
    return {pattern.replace("*", ".*") for pattern in patterns}


def _alternation(patterns: Iterable[str]) -> "re.Pattern[str]":
    """Matches what one of `patterns` matches; nothing where there are none."""
    return re.compile("|".join(f"({pattern})" for pattern in sorted(patterns)) or r"(?!)")
