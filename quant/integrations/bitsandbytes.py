"""bitsandbytes' own formats, loaded through transformers, as what ours are compared with.

They run as a user gets them. On CPUs with AVX512-BF16 that means that the first forward of a 4-bit layer repacks its
weight and computes in bfloat16 whatever the dtype, so its results differ from those on other CPUs; and that sizes are
to be taken before the first forward.
"""

import importlib.util
from typing import Any

import torch

from quant.errors import QuantError
from quant.linears import is_from_bitsandbytes

NAMES = ("bnb-int8", "bnb-fp4", "bnb-nf4")


def quantization_config(name: str, dtype: torch.dtype) -> Any:
    """The `BitsAndBytesConfig` for `name`, one of `NAMES`, computing in `dtype`; block size 64, no double quantization.

    Raises:
        QuantError: bitsandbytes is not installed, or an unknown name.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise QuantError(f"{name} needs bitsandbytes: pip install 'quant[bitsandbytes]'")
    from transformers import BitsAndBytesConfig  # noqa: PLC0415

    if name == "bnb-int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if name in NAMES:
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=name.removeprefix("bnb-"), bnb_4bit_compute_dtype=dtype
        )
    raise QuantError(f"unknown bitsandbytes scheme {name!r}, use one of {', '.join(NAMES)}")


def is_quantized_linear(module: torch.nn.Module) -> bool:
    """Whether `module` is one of bitsandbytes' quantized linear layers."""
    return is_from_bitsandbytes(module) and type(module).__name__ in ("Linear4bit", "Linear8bitLt")
