"""One small quantized layer of any scheme, and the bits that it holds."""

import torch
from torch import nn

from quant import BlockwiseLinear, W8A16Linear
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Blockwise, Scheme
from tests.models import seeded
from tests.strategies import bits

OUT, IN = 7, 33
"""Odd, so that blocks run over the ends of rows and the last one is short."""
Bits = dict[str, list[int]]


def quantized(scheme: Scheme, seed: int = 0, dtype: torch.dtype = torch.float32) -> QuantizedLinear:
    """A layer [7, 33] with a bias."""
    return quantized_linear(seeded(lambda: nn.Linear(IN, OUT, dtype=dtype), seed), scheme)


def empty(scheme: Scheme) -> QuantizedLinear:
    """A layer of undefined codes, to be loaded into."""
    return BlockwiseLinear(IN, OUT, scheme) if isinstance(scheme, Blockwise) else W8A16Linear(IN, OUT, scheme)


def stored_bits(layer: QuantizedLinear) -> Bits:
    """Of the quantized weight."""
    return {name: bits(tensor.reshape(-1)) for name, tensor in layer.stored.items()}


def state_bits(module: nn.Module) -> Bits:
    """Of everything in the `state_dict()`."""
    return {name: bits(tensor.reshape(-1)) for name, tensor in module.state_dict().items()}
