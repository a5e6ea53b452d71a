"""Quantized layers on a CUDA device against the same layers on the CPU."""

import copy

import pytest
import torch
from torch import nn

import quant
from quant.modules import quantized_linear
from tests import oracle
from tests.strategies import SCHEMES, normal

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> torch.device:
    """The GPU; without one the test fails, so that a GPU runner that lost its GPU is not green."""
    if not torch.cuda.is_available():
        pytest.fail("tests marked gpu need a CUDA GPU and this machine has none: run pytest -m 'not gpu'")
    return torch.device("cuda")


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_moving_to_the_gpu_and_back_keeps_every_bit(scheme: quant.Scheme, device: torch.device) -> None:
    model = quant.quantize(nn.Sequential(nn.Linear(192, 96)), scheme)
    before = copy.deepcopy(model.state_dict())
    model.to(device)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cuda"}
    model.to("cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_quantizing_on_the_gpu_gives_the_codes_of_the_cpu(scheme: quant.Scheme, device: torch.device) -> None:
    weight = normal((96, 200))
    on_cpu, on_gpu = quant.quantize_tensor(weight, scheme), quant.quantize_tensor(weight.to(device), scheme)
    assert torch.equal(on_cpu.codes, on_gpu.codes.cpu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_outputs_are_the_exact_ones_but_for_rounding(
    scheme: quant.Scheme, dtype: torch.dtype, device: torch.device
) -> None:
    """On both devices (TF32 is off): off by a float32 sum of K products in any order and a rounding to dtype."""
    layer = quantized_linear(nn.Linear(256, 64), scheme).to(dtype)
    x = normal((5, 256), seed=1).to(dtype)
    assert layer.bias is not None
    weight = layer.quantized_weight.dequantize(torch.float32)
    exact = x.double().tolist(), weight.double().tolist(), layer.bias.double().tolist()
    name = str(dtype).removeprefix("torch.")
    assert oracle.linear_error(layer(x).double().tolist(), *exact, name) <= 1
    on_gpu = copy.deepcopy(layer).to(device)(x.to(device))
    assert (on_gpu.device.type, on_gpu.dtype) == ("cuda", dtype)
    assert oracle.linear_error(on_gpu.cpu().double().tolist(), *exact, name) <= 1
