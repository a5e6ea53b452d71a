"""What a folder that was quantized by this library stores: layers and bytes, from its config.json and headers alone."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.checkpoint.folder import CONFIG, open_checkpoint, read_json
from quant.dtypes import dtype_name
from quant.schemes import METHOD_PREFIX


@dataclass(frozen=True)
class Summary:
    """A quantized checkpoint as it is on the disk.

    Attributes:
        method: `quant_method` of its config.json; options: the other plain values beside it, as format and block size.
        dtype: of what is not quantized, as config.json has it.
        layers: how many are quantized; tensors: how many are stored.
        layers_by_scheme: scheme and options -> how many of those layers have it.
        bytes_by_dtype: name of the dtype -> bytes of its tensors, most first; bytes_by_file: of whole files.
    """

    method: str
    options: dict[str, int | bool | str]
    dtype: str
    layers: int
    tensors: int
    bytes_by_dtype: dict[str, int]
    bytes_by_file: dict[str, int]
    layers_by_scheme: dict[str, int]


def summarize(folder: Path) -> Summary | None:
    """The summary of `folder`, or None where it is no folder of ours.

    Raises:
        QuantError: it is one, and its headers or its index are damaged.
    """
    path = folder / CONFIG
    config = read_json(path) if os.path.isfile(path) else None  # which takes any name
    if not isinstance(config, dict) or not isinstance(config.get("quantization_config"), dict):
        return None
    stored = config["quantization_config"]
    method = stored.get("quant_method")
    if not isinstance(method, str) or not method.startswith(METHOD_PREFIX):
        return None
    checkpoint = open_checkpoint(folder)
    by_dtype: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        by_dtype[dtype_name(tensor.dtype)] += tensor.nbytes
    layers = _layers_by_scheme(method, stored)
    return Summary(
        method=method,
        options=_options(stored),
        dtype=str(config.get("dtype")),
        layers=sum(layers.values()),
        tensors=len(checkpoint.tensors),
        bytes_by_dtype=dict(by_dtype.most_common()),
        bytes_by_file={name: header.size for name, header in checkpoint.files.items()},
        layers_by_scheme=layers,
    )


def _options(content: dict[str, Any]) -> dict[str, int | bool | str]:
    return {key: value for key, value in content.items() if key != "quant_method" and isinstance(value, int | str)}


def _layers_by_scheme(method: str, stored: dict[str, Any]) -> dict[str, int]:
    """Of one scheme for all, or of the groups of mixed precision; what is damaged counts for nothing."""
    groups = stored.get("groups", [{"scheme": method.removeprefix(METHOD_PREFIX), **stored}])
    counts: Counter[str] = Counter()
    for group in groups if isinstance(groups, list) else []:
        modules = group.get("quantized_modules") if isinstance(group, dict) else None
        if isinstance(modules, list):
            options = {key: value for key, value in _options(group).items() if key not in ("scheme", "format_version")}
            text = "".join(f", {name} {value}" for name, value in options.items())
            counts[f"{group.get('scheme')}{text}"] += len(modules)
    return dict(counts.most_common())
