"""Layers in CUDA graphs: captured once and replayed with other activations, the bits of a call.

What a graph may not do, such as wait for the GPU or read a size from it, fails while it is captured.
"""

import pytest
import torch
from torch import nn

import quant
from quant.modules import quantized_linear
from tests.gpu.needing import NeedsCuda
from tests.strategies import SCHEMES, normal

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_replayed_graph_gives_the_bits_of_a_call(
    scheme: quant.Scheme, rows: int, dtype: torch.dtype, device: torch.device, needs_cuda: NeedsCuda
) -> None:
    layer = quantized_linear(nn.Linear(1024, 320), scheme).to(device, dtype)
    first, second = (normal((rows, 1024), seed=seed).to(device, dtype) for seed in (1, 2))
    with torch.inference_mode():
        expected = layer(second)
        assert not torch.equal(layer(first), expected)
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
            assert torch.equal(y, expected)
