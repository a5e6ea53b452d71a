"""What another order of float operations does to a model's results: measured, by doing as much on purpose.

Quantized layers compute in integers and give the same bits everywhere, but norms, attention and the head sum floats,
in another order with another CPU, thread count or release of torch. `rounding_noise` stands for all of those: the
output of every layer is off by up to one unit in the last place of its dtype, that of the quantized layers too, which
torch's fallback computes in floats. On the embedded model in float32 that moves losses 1.1 to 1.5 times as far as real
machines do (measured: AVX-512 against AVX2 and against no vectors at all, with torch's `ATEN_CPU_CAPABILITY`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def rounding_noise(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Within, every module of `model` without children multiplies its float output by 1 + eps * r, r uniform in
    [-1, 1) from `seed` and eps that of the output's dtype. The model is the same afterwards.
    """
    generator = torch.Generator().manual_seed(seed)

    def disturb(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        # Drawn on the CPU: the same noise on every device.
        uniform = 2 * torch.rand(output.shape, generator=generator) - 1
        exact = output.float() * (1 + torch.finfo(output.dtype).eps * uniform.to(output.device))
        return exact.to(output.dtype)

    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(disturb) for module in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
