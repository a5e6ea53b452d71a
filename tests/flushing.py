"""Running with subnormals flushed to zero, as audio and some training code sets it for speed."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def flushing_subnormals() -> Iterator[None]:
    """The CPU treats subnormals as zero (every CPU that torch is tested on can; where one cannot, nothing changes)."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
