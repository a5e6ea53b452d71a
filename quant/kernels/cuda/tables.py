"""Constants on a device, which kernels look codes up in."""

import torch
from torch import Tensor

from quant.numerics.tables import cached_table


@cached_table
def table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """`values` on `device`, copied there once."""
    return torch.tensor(values, dtype=dtype, device=device)
