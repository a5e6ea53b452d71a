"""The bytes of a tensor in memory, which are also those that a file holds of it."""

import torch
from torch import Tensor


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of `tensor` in row-major order; its own memory where it is contiguous."""
    if not tensor.numel():
        return memoryview(b"")
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data
