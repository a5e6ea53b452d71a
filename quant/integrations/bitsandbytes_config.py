"""What config.json says of a checkpoint that bitsandbytes quantized to 4 bits, read and written.

transformers has one `BitsAndBytesConfig` for the whole model, but takes only little from it when it loads what is
already quantized: which layers are (all linear ones but `llm_int8_skip_modules`), the dtype that the codes are stored
under and the dtype to compute in. Levels, block size and double quantization come from each weight itself, so every
block size loads, not only the 64 that transformers quantizes with.

`llm_int8_skip_modules` is a list of patterns, not of names: each also skips what it is the beginning or the end of.
Where a layer that is left float would have a quantized one skipped with it, the checkpoint is refused.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.linears import is_linear
from quant.schemes import Blockwise

METHOD = "bitsandbytes"


def is_bitsandbytes(quantization: Any) -> bool:
    """Whether the `quantization_config` of a config.json is one of bitsandbytes; older ones do not name the method."""
    if not isinstance(quantization, dict):
        return False
    default = METHOD if {"load_in_4bit", "load_in_8bit"} & quantization.keys() else None
    return bool(quantization.get("quant_method", default) == METHOD)


def bitsandbytes_config(
    model: Any, quantized: Collection[str], scheme: Blockwise, dtype: torch.dtype
) -> dict[str, Any]:
    """The `quantization_config` with which transformers loads a checkpoint of bitsandbytes.

    Args:
        model: its skeleton, with float layers.
        quantized: names of its quantized layers.
        scheme: theirs, NF4 or FP4; dtype: to compute in.

    Raises:
        QuantError: no list of skipped modules tells the quantized layers from the others.
    """
    name = dtype_name(dtype)
    return {
        "quant_method": METHOD,
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": scheme.name,
        "bnb_4bit_use_double_quant": scheme.double_quant,
        "bnb_4bit_compute_dtype": name,
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": _skipped(model, quantized),
        "llm_int8_threshold": 6.0,
    }


def _skipped(model: nn.Module, quantized: Collection[str]) -> list[str]:
    """The linear layers of `model` that are not quantized."""
    from transformers.quantizers.quantizers_utils import should_convert_module  # noqa: PLC0415

    layers = [name for name, module in model.named_modules() if is_linear(module)]
    left = [name for name in layers if name not in quantized]
    kept = list(getattr(model, "_keep_in_fp32_modules", None) or ())
    for pattern in left + kept:
        lost = next((name for name in quantized if not should_convert_module(name, [pattern])), None)
        if lost is not None:
            raise QuantError(
                f"transformers would not read {lost} as quantized, because {pattern} is not and it takes names for "
                f"patterns: quantize again without {lost}"
            )
    return left
