"""Division by way of the reciprocal, as bitsandbytes does it, on CPUs that flush subnormals too."""

import torch
from torch import Tensor


def times_reciprocal(rows: Tensor, reciprocal: Tensor, divisor: Tensor) -> Tensor:
    """rows (float32 [n, k]) times `reciprocal` (float32 [n], 1 / `divisor`).

    The reciprocal of a divisor above 2^126 is subnormal. Where the CPU flushed it to zero the row is divided instead:
    zeros would stand for the largest weights there are.
    """
    scaled = rows * reciprocal[:, None]
    flushed = reciprocal == 0
    if bool(torch.any(flushed)):
        scaled[flushed] = rows[flushed] / divisor[flushed, None]
    return scaled
