"""Constants on a device, which kernels look codes up in."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from quant.numerics.tables import cached_table


@cached_table
def table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """`values` on `device`, copied there once: a CUDA graph that is captured after the first call finds them there.

    They are made in a thread of their own. While `torch.compile(mode="reduce-overhead")` warms up, what the calling
    thread allocates comes from the memory of the graph, where nothing may stay; and the mode that makes tensors in
    inference is the caller's too.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(torch.tensor, values, dtype=dtype, device=device).result()
