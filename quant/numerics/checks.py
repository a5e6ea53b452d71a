"""What every quantizing function asks of its input before it computes."""

import torch
from torch import Tensor

from quant.dtypes import dtype_name
from quant.errors import QuantError

FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_dtype(weight: Tensor) -> None:
    """Raises:
    QuantError: `weight` is not float64, float32, float16 or bfloat16.
    """
    if weight.dtype not in FLOAT_DTYPES:
        names = ", ".join(map(dtype_name, FLOAT_DTYPES))
        raise QuantError(
            f"cannot quantize a weight of dtype {weight.dtype}, shape {list(weight.shape)}: use one of {names}"
        )


def check_finite(absmax: Tensor, weight: Tensor) -> None:
    """`absmax` (any shape) holds the largest magnitudes of `weight` in float32, which NaN and Inf survive.

    Raises:
        QuantError: NaN, Inf, or a float64 beyond float32's range.
    """
    if not bool(torch.isfinite(absmax).all()):
        count = int((~torch.isfinite(weight.float())).sum())
        raise QuantError(
            f"weight of shape {list(weight.shape)} has {count} NaN or infinite values (in float32): "
            "repair the checkpoint or exclude the layer"
        )
