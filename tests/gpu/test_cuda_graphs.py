"""Layers in CUDA graphs: captured once and replayed with other activations, the results of a call.

What a graph may not do, such as wait for the GPU or read a size from it, fails while it is captured.
"""

import pytest
import torch
from torch import Tensor, nn

import quant
from quant.kernels.cuda import FEW_ROWS
from quant.modules import QuantizedLinear, quantized_linear
from tests import oracle
from tests.gpu.needing import NeedsCuda
from tests.strategies import SCHEMES, normal

pytestmark = pytest.mark.gpu


def assert_rounded_alike(y: Tensor, expected: Tensor, layer: QuantizedLinear, x: Tensor) -> None:
    """Two sums of the same K products, in any order, where nothing promises the same: apart by twice the bound of each,
    with sums that tensor cores may cut off and a rounding of each weight and output.
    """
    assert layer.bias is not None
    weight, bias = layer.quantized_weight.dequantize(torch.float32).double(), layer.bias.double()
    magnitude = x.double().abs() @ weight.abs().t() + bias.abs()
    rounding = oracle.PRECISION[str(x.dtype).removeprefix("torch.")][0]
    bound = 2 * (2 * len(weight.t()) * oracle.UNIT_ROUNDOFF + 3 * rounding) * magnitude
    assert bool(((y.double() - expected.double()).abs() <= bound).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_replayed_graph_gives_the_results_of_a_call(
    scheme: quant.Scheme, rows: int, dtype: torch.dtype, device: torch.device, needs_cuda: NeedsCuda
) -> None:
    layer = quantized_linear(nn.Linear(1024, 320), scheme).to(device, dtype)
    first, second = (normal((rows, 1024), seed=seed).to(device, dtype) for seed in (1, 2))
    with torch.inference_mode():
        expected = layer(second)
        assert not torch.equal(layer(first), expected)
        assert_rounded_alike(layer(second), expected, layer, second)
        if needs_cuda("CUDA graphs"):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                layer(first)
            torch.cuda.current_stream().wait_stream(stream)
            graph, x = torch.cuda.CUDAGraph(), first.clone()
            with torch.cuda.graph(graph):
                y = layer(x)
            x.copy_(second)
            graph.replay()
            if scheme == quant.W8A16() or rows <= FEW_ROWS:
                assert torch.equal(y, expected)
            else:
                assert_rounded_alike(y, expected, layer, second)
