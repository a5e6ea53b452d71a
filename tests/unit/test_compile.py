"""`torch.compile` of quantized layers: one graph, the bits of eager, forward and backward."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from quant import NF4, W8A16
from quant.modules import quantized_linear
from quant.schemes import Scheme
from tests.models import seeded
from tests.strategies import bits, normal


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget what other tests have compiled, and what this one did."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "scheme",
    [W8A16(), NF4(), NF4(double_quant=True)],
    ids=["w8a16", "nf4", "nf4-dq"],
)
def test_forward_is_one_graph_with_the_bits_of_eager(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for shape in ((3, 48), (5, 48), (2, 3, 48)):
        x = normal(shape)
        assert bits(compiled(x)) == bits(layer(x))


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=["w8a16", "nf4"])
def test_backward_has_the_bits_of_eager(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    eager, traced = (normal((3, 48)).requires_grad_() for _ in range(2))
    layer(eager).square().sum().backward()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(traced).square().sum().backward()
    assert eager.grad is not None
    assert traced.grad is not None
    assert bits(eager.grad) == bits(traced.grad)
