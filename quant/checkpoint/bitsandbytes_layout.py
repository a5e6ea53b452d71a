"""One 4-bit weight in the layout of bitsandbytes' checkpoints, to and from ours. Needs no bitsandbytes.

Behind a layer's name, as transformers' `save_pretrained` writes it:

| theirs | dtype, shape | ours |
|---|---|---|
| `weight` | uint8 [ceil(n/2), 1] | `weight`, flat |
| `weight.absmax` | float32 [blocks], uint8 with double quantization | `weight_absmax` |
| `weight.nested_absmax` | float32 [ceil(blocks/256)], double quantization only | `weight_absmax_scale` |
| `weight.quant_map`, `weight.nested_quant_map` | float32 [16], [256]: the levels | the codebook |
| `weight.quant_state.bitsandbytes__nf4`, `__fp4` | uint8: JSON | `weight_format`, `weight_absmax_offset` |

Codes and absmax are the same bytes on both sides, so both directions copy them, and a weight that went through both is
the one it was, to the bit. `bnb_4bit_quant_storage` may have put the codes under another dtype: their bytes are taken,
the dtype is not kept, and what is written is uint8. The levels are in every file of theirs and in none of ours, so they
must be ours to the bit.

Refused, by the tensor's name: parts that are missing, unknown or do not fit each other, NaN and Inf, other levels,
LLM.int8, and what bitsandbytes saves after it has computed on a CPU with AVX512-BF16. It repacks the weight for that
and undoes it when it saves, but for the absmax, which stay bfloat16 and transposed. With double quantization it
quantizes them anew, which shows only where the model is of 16 bits: from a float32 model they pass for sound ones
(about 0.2 % off), here as in bitsandbytes. Of ours, INT4 and W8A16 are refused: bitsandbytes has no such formats.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from quant.checkpoint.bitsandbytes_state import PREFIX, SAVE_AGAIN, WeightState, read_state, state_tensor
from quant.codebooks import DYNAMIC8_LEVELS, LEVELS
from quant.dtypes import MODEL_DTYPES
from quant.errors import QuantError
from quant.schemes import FP4, NF4, Blockwise, Scheme
from quant.tensor import QuantizedTensor, empty_stored

SAME_BYTES = {
    "weight": "weight",
    "weight_absmax": "weight.absmax",
    "weight_absmax_scale": "weight.nested_absmax",
}
"""Ours -> theirs, for the parts that are the same bytes in both layouts. The others are small and made anew."""
STORAGE_DTYPES = (torch.uint8, torch.int8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def from_bitsandbytes(name: str, parts: Mapping[str, Tensor]) -> QuantizedTensor:
    """The weight of a layer that bitsandbytes quantized.

    Args:
        name: of the layer, for messages.
        parts: the layer's tensors by the names in the module docstring, without the bias; not changed. `weight` may be
            on the meta device: nothing but its shape and dtype is looked at.

    Returns:
        A QuantizedTensor of shape [out, in] whose tensors share memory with `parts`.

    Raises:
        QuantError: see the module docstring.
    """
    if "SCB" in parts:
        raise QuantError(
            f"{name}.SCB: a layer of LLM.int8, which computes the outliers of its input apart from the rest, as none "
            "of ours does: quantize the float checkpoint, as w8a16 for 8 bits"
        )
    state = read_state(name, parts)
    scheme = state.scheme
    nested = ("weight.nested_absmax", "weight.nested_quant_map") if scheme.double_quant else ()
    _check_names(name, parts, ("weight", "weight.absmax", "weight.quant_map", f"{PREFIX}{scheme.name}", *nested))
    _check_levels(f"{name}.weight.quant_map", parts["weight.quant_map"], LEVELS[scheme.codebook])
    if nested:
        _check_levels(f"{name}.weight.nested_quant_map", parts["weight.nested_quant_map"], DYNAMIC8_LEVELS)

    expected = empty_stored(scheme, state.shape, "meta")
    stored = {"weight": _packed(f"{name}.weight", parts["weight"], expected["weight"].numel())}
    for ours in expected.keys() & {"weight_absmax", "weight_absmax_scale"}:
        part = SAME_BYTES[ours]
        _check_absmax(f"{name}.{part}", parts[part], expected[ours])
        stored[ours] = parts[part]
    if state.offset is not None:
        stored["weight_absmax_offset"] = state.offset
    stored["weight_format"] = torch.tensor(scheme.format_tag, dtype=torch.uint8, device="cpu")
    return QuantizedTensor(scheme, state.shape, state.dtype, stored)


def to_bitsandbytes(name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
    """The tensors that bitsandbytes would have saved for this weight, by the names in the module docstring.

    Args:
        name: of the layer, for messages.
        quantized: of shape [out, in] and dtype float32, bfloat16 or float16; its `weight` may be on the meta device.
            Tensors are shared.

    Raises:
        QuantError: not NF4 or FP4, another shape or dtype, stored tensors that do not fit the scheme and the shape.
    """
    scheme = check_exportable(quantized.scheme)
    if quantized.dtype not in MODEL_DTYPES.values() or len(quantized.shape) != 2:
        raise QuantError(
            f"{name}: bitsandbytes holds weights [out, in] of {', '.join(MODEL_DTYPES)}, this one is {quantized.dtype} "
            f"of shape {list(quantized.shape)}: quantize the float checkpoint in another dtype"
        )
    _check_stored(name, quantized)
    stored = quantized.stored
    parts = {
        "weight": stored["weight"].view(-1, 1),
        "weight.absmax": stored["weight_absmax"],
        "weight.quant_map": _levels(LEVELS[scheme.codebook]),
    }
    if scheme.double_quant:
        parts["weight.nested_absmax"] = stored["weight_absmax_scale"]
        parts["weight.nested_quant_map"] = _levels(DYNAMIC8_LEVELS)
    state = WeightState(scheme, quantized.shape, quantized.dtype, stored.get("weight_absmax_offset"))
    parts[f"{PREFIX}{scheme.name}"] = state_tensor(state)
    return parts


def check_exportable(scheme: Scheme) -> Blockwise:
    """`scheme`, which bitsandbytes has a format for.

    Raises:
        QuantError: it has none.
    """
    if not isinstance(scheme, NF4 | FP4):
        raise QuantError(f"bitsandbytes has no format for {scheme}: quantize the float checkpoint as nf4 or fp4")
    return scheme


def _levels(levels: tuple[float, ...]) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32, device="cpu")


def _check_names(name: str, parts: Mapping[str, Tensor], expected: tuple[str, ...]) -> None:
    missing = [part for part in expected if part not in parts]
    if missing:
        raise QuantError(f"{name}: {', '.join(missing)} is missing: the checkpoint is half-written, save it again")
    unknown = [part for part in parts if part not in expected]
    if unknown:
        raise QuantError(f"{name}.{unknown[0]} does not belong to a weight with {', '.join(expected)}: save it again")


def _check_levels(key: str, stored: Tensor, levels: tuple[float, ...]) -> None:
    """Compared as bits, which tell 0.0 and -0.0 apart."""
    same = stored.dtype == torch.float32 and torch.equal(stored.view(torch.int32), _levels(levels).view(torch.int32))
    if not same:
        raise QuantError(
            f"{key} holds other levels than the format has, so its codes cannot be read as ours: quantize the float "
            "checkpoint instead"
        )


def _packed(key: str, weight: Tensor, count: int) -> Tensor:
    """uint8 [count]: the packed codes, whatever dtype they are stored under."""
    if weight.dtype not in STORAGE_DTYPES or weight.dim() != 2 or weight.shape[1] != 1:
        raise QuantError(
            f"{key} is {weight.dtype} of shape {list(weight.shape)} and not packed codes [n, 1], as if it was repacked "
            f"for a kernel: {SAVE_AGAIN}"
        )
    packed = weight.reshape(-1).view(torch.uint8)
    if packed.numel() != count:
        raise QuantError(f"{key} has {packed.numel()} bytes where its shape needs {count}: the file is damaged")
    return packed


def _check_absmax(key: str, absmax: Tensor, expected: Tensor) -> None:
    found = f"{key} is {absmax.dtype} of shape {list(absmax.shape)}"
    if absmax.dtype in (torch.bfloat16, torch.float16) and absmax.dim() == 2:
        raise QuantError(
            f"{found}: bitsandbytes leaves it so, and the model wrong, when it has computed on a CPU with AVX512-BF16 "
            f"before it saved: {SAVE_AGAIN}"
        )
    if (absmax.dtype, absmax.shape) != (expected.dtype, expected.shape):
        raise QuantError(
            f"{found} where the weight needs {expected.dtype} of shape {list(expected.shape)}: the file is damaged"
        )
    if absmax.is_floating_point() and not bool(torch.isfinite(absmax).all()):
        raise QuantError(f"{key} has NaN or infinite values: the weight had them too, repair the float model")


def _check_stored(name: str, quantized: QuantizedTensor) -> None:
    """Of ours: names, dtypes and shapes as the scheme and the shape ask for, and the tag of the scheme."""
    expected = empty_stored(quantized.scheme, quantized.shape, "meta")
    for part, tensor in expected.items():
        stored = quantized.stored.get(part)
        if stored is None:
            raise QuantError(f"{name}.{part} is missing: the checkpoint is half-written, save it again")
        if (stored.dtype, stored.shape) != (tensor.dtype, tensor.shape):
            raise QuantError(
                f"{name}.{part} is {stored.dtype} of shape {list(stored.shape)} where {quantized.scheme} needs "
                f"{tensor.dtype} of shape {list(tensor.shape)}: the file is damaged"
            )
    tag = tuple(quantized.stored["weight_format"].tolist())
    assert isinstance(quantized.scheme, Blockwise)
    if tag != quantized.scheme.format_tag:
        raise QuantError(f"{name}.weight_format: tensors of format {tag} are not {quantized.scheme}'s")
