"""The JSON that bitsandbytes keeps beside a 4-bit weight, as a tensor of bytes: all that is not a tensor itself.

    {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 256],
     "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.0405}

The second line only with double quantization. The offset is a float32 in as many decimals as tell it from its
neighbours, so it is read back to the bit; what is written equals what bitsandbytes writes, to the byte.

Refused: fields that are missing or of another type, and values that no scheme here has.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.dtypes import MODEL_DTYPES, dtype_name
from quant.errors import QuantError
from quant.schemes import DOUBLE_QUANT_BLOCK, FP4, NF4, Blockwise

KINDS: dict[str, type[Blockwise]] = {"nf4": NF4, "fp4": FP4}
PREFIX = "weight.quant_state.bitsandbytes__"
"""The tensor's name behind the layer's, up to its ending "nf4" or "fp4"."""
SAVE_AGAIN = "load the float model again, quantize it and save it before its first forward"
"""The remedy for what bitsandbytes leaves behind when it has computed on a CPU with AVX512-BF16."""


@dataclass(frozen=True)
class WeightState:
    """Scheme, shape [out, in] and source dtype of a weight; offset: float32 [], None without double quantization."""

    scheme: Blockwise
    shape: torch.Size
    dtype: torch.dtype
    offset: Tensor | None


def read_state(name: str, parts: Mapping[str, Tensor]) -> WeightState:
    """Of the layer called `name`, from its tensors by their names behind the layer's.

    Raises:
        QuantError: see the module docstring.
    """
    keys = [part for part in parts if part.startswith("weight.quant_state.")]
    if len(keys) != 1:
        found = ", ".join(keys) or "none"
        raise QuantError(f"{name}: expected one {PREFIX}nf4 or {PREFIX}fp4, found {found}: save the checkpoint again")
    key = f"{name}.{keys[0]}"
    fields = _parse(key, parts[keys[0]])
    kind = fields.get("quant_type")
    if not isinstance(kind, str) or kind not in KINDS or keys[0] != f"{PREFIX}{kind}":
        raise QuantError(f"{key} has quant_type {kind!r}: only {' and '.join(KINDS)} can be read")
    double_quant = any(field.startswith("nested_") for field in fields)
    try:
        scheme = KINDS[kind](_field(key, fields, "blocksize", int), double_quant)
    except QuantError as error:
        raise QuantError(f"{key}: {error}") from error
    shape, dtype = _field(key, fields, "shape", list), _field(key, fields, "dtype", str)
    if len(shape) != 2 or not all(type(size) is int and 0 < size < 2**31 for size in shape):
        raise QuantError(f"{key} has shape {shape}: only weights [out, in] can be read")
    if dtype not in MODEL_DTYPES:
        raise QuantError(f"{key} has dtype {dtype!r}: only weights of {', '.join(MODEL_DTYPES)} can be read")
    return WeightState(scheme, torch.Size(shape), MODEL_DTYPES[dtype], _offset(key, fields) if double_quant else None)


def state_tensor(state: WeightState) -> Tensor:
    """uint8: the JSON, field by field in bitsandbytes' order; `state.dtype` must be one of `MODEL_DTYPES`."""
    fields: dict[str, Any] = {
        "quant_type": state.scheme.name,
        "blocksize": state.scheme.block_size,
        "dtype": dtype_name(state.dtype),
        "shape": list(state.shape),
    }
    if state.offset is not None:
        fields["nested_blocksize"] = DOUBLE_QUANT_BLOCK
        fields["nested_dtype"] = "float32"
        fields["nested_offset"] = state.offset.item()
    return torch.tensor(list(json.dumps(fields).encode()), dtype=torch.uint8, device="cpu")


def _parse(key: str, tensor: Tensor) -> dict[str, Any]:
    try:
        if tensor.dtype != torch.uint8:
            raise ValueError(f"it is {tensor.dtype}")
        fields = json.loads(bytes(tensor.flatten().tolist()))
        if not isinstance(fields, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise QuantError(f"{key} is not valid JSON ({error}): the file is damaged, save it again") from error
    return fields


def _field(key: str, fields: Mapping[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise QuantError(f"{key} has {name} {value!r}: the file is damaged, save it again")
    return value


def _offset(key: str, fields: Mapping[str, Any]) -> Tensor:
    dtype, size = _field(key, fields, "nested_dtype", str), _field(key, fields, "nested_blocksize", int)
    if dtype != "float32":
        raise QuantError(
            f"{key}: the absmax were quantized from {dtype}, as bitsandbytes does after it has computed on a CPU with "
            f"AVX512-BF16, and lost precision: {SAVE_AGAIN}"
        )
    if size != DOUBLE_QUANT_BLOCK:
        raise QuantError(f"{key} has nested_blocksize {size}: only {DOUBLE_QUANT_BLOCK} can be read")
    offset = torch.tensor(_field(key, fields, "nested_offset", float), dtype=torch.float32, device="cpu")
    if not bool(torch.isfinite(offset)):
        raise QuantError(f"{key} has nested_offset {offset.item()}: the weight held NaN or Inf, repair the float model")
    return offset
