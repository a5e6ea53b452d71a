"""What runs in a process of its own, which has to import this file first: little else is imported."""

from multiprocessing.connection import Connection

from torch import Tensor

from quant.modules import QuantizedLinear
from tests.strategies import bits


def compute(results: Connection, layers: list[QuantizedLinear], x: Tensor) -> None:
    """Send the bits of each layer's product."""
    results.send([bits(layer(x)) for layer in layers])
