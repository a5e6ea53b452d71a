"""`torch.compile` of quantized layers: one graph, the bits of eager, forward and backward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant.modules import quantized_linear
from quant.schemes import Scheme
from tests.models import seeded
from tests.strategies import bits, normal

pytestmark = pytest.mark.usefixtures("nothing_compiled")


def test_forward_is_one_graph_with_the_bits_of_eager(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for shape in ((3, 48), (5, 48), (2, 3, 48)):
        x = normal(shape)
        assert bits(compiled(x)) == bits(layer(x))


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no grad"])
def test_one_graph_serves_any_number_of_rows(scheme: Scheme, grad: bool) -> None:
    """Numbers of rows for which the kernels differ: which one runs is decided when the graph does."""
    graphs: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(str(module.graph))
        return module.forward

    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    with torch.set_grad_enabled(grad):
        for rows in (2, 3, 5, 25, 65):
            x = normal((rows, 48), seed=rows)
            torch._dynamo.mark_dynamic(x, 0)
            assert bits(compiled(x)) == bits(layer(x)), rows
    assert len(graphs) == 1
    assert "quant.w8a16_linear" in graphs[0] or "quant.blockwise_linear" in graphs[0]


def test_backward_has_the_bits_of_eager(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    eager, traced = (normal((3, 48)).requires_grad_() for _ in range(2))
    layer(eager).square().sum().backward()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(traced).square().sum().backward()
    assert eager.grad is not None
    assert traced.grad is not None
    assert bits(eager.grad) == bits(traced.grad)
