"""Quantized layers on the device against the exact results, and against the same layers on the CPU."""

import copy

import pytest
import torch
from torch import nn

import quant
from quant.kernels.cuda import FEW_ROWS
from quant.modules import quantized_linear
from quant.schemes import Blockwise
from tests import oracle
from tests.gpu.needing import NeedsCuda
from tests.integer_oracle import LEVEL_ERROR
from tests.strategies import SCHEMES, bits, normal

pytestmark = pytest.mark.gpu
EXACT = [(scheme, rows) for scheme in SCHEMES for rows in (1, 5, FEW_ROWS)] + [(quant.W8A16(), 20), (quant.W8A16(), 70)]
"""Schemes with numbers of rows that are multiplied in integers on a GPU too."""


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_moving_to_the_gpu_and_back_keeps_every_bit(scheme: quant.Scheme, device: torch.device) -> None:
    model = quant.quantize(nn.Sequential(nn.Linear(192, 96)), scheme)
    before = copy.deepcopy(model.state_dict())
    model.to(device)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {device.type}
    model.to("cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_moving_between_gpus_keeps_every_bit(scheme: quant.Scheme, device: torch.device, needs_cuda: NeedsCuda) -> None:
    model = quant.quantize(nn.Sequential(nn.Linear(192, 96)), scheme).to(device)
    before = copy.deepcopy(model.state_dict())
    if needs_cuda("two GPUs", gpus=2):
        model.to("cuda:1").to("cuda:0")
    assert all(torch.equal(tensor.to(device), before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_quantizing_on_the_gpu_gives_the_codes_of_the_cpu(scheme: quant.Scheme, device: torch.device) -> None:
    weight = normal((96, 200))
    on_cpu, on_gpu = quant.quantize_tensor(weight, scheme), quant.quantize_tensor(weight.to(device), scheme)
    assert torch.equal(on_cpu.codes, on_gpu.codes.cpu())


@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_outputs_are_the_exact_ones_but_for_rounding(
    scheme: quant.Scheme, dtype: torch.dtype, rows: int, device: torch.device
) -> None:
    """On both devices (TF32 is off): off by a float32 sum of K products in any order, the fixed point of activations
    and levels, and a rounding of the output; on a GPU many rows of 4-bit weights by those rounded to dtype too. Numbers
    of rows for which different kernels compute.
    """
    codebook = scheme.codebook if isinstance(scheme, Blockwise) else "w8a16"
    layer = quantized_linear(nn.Linear(256, 24), scheme).to(dtype)
    x = normal((rows, 256), seed=1).to(dtype)
    assert layer.bias is not None
    weight = layer.quantized_weight.dequantize(torch.float32)
    exact = x.double().tolist(), weight.double().tolist(), layer.bias.double().tolist()
    name = str(dtype).removeprefix("torch.")
    level_error = LEVEL_ERROR[codebook]
    rounds = codebook != "w8a16" and rows > FEW_ROWS and dtype != torch.float32
    # Tensor cores may cut off where they add, which is twice a rounding: the bound has one for each of 256 terms.
    rounding = oracle.PRECISION[name][0] + 256 * oracle.UNIT_ROUNDOFF if rounds else 0.0
    assert oracle.linear_error(layer(x).double().tolist(), *exact, name, level_error) <= 1
    on_gpu = copy.deepcopy(layer).to(device)(x.to(device))
    assert (on_gpu.device.type, on_gpu.dtype) == (device.type, dtype)
    assert oracle.linear_error(on_gpu.cpu().double().tolist(), *exact, name, level_error + rounding) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("scheme", "rows"), EXACT, ids=str)
def test_integer_products_have_the_bits_of_the_cpu(
    scheme: quant.Scheme, rows: int, dtype: torch.dtype, device: torch.device
) -> None:
    """`quant.kernels.cuda` says which those are. The CPU's are those of its native kernels: where there was no compiler
    this fails on a GPU, as it should.
    """
    layer = quantized_linear(nn.Linear(272, 24), scheme).to(dtype)
    x = normal((rows, 272), seed=1).to(dtype)
    with torch.no_grad():
        expected, actual = layer(x), copy.deepcopy(layer).to(device)(x.to(device)).cpu()
    assert bits(actual) == bits(expected)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_gradients_on_the_gpu_are_those_of_the_weight_in_use(scheme: quant.Scheme, device: torch.device) -> None:
    """A gradient for x is one row of floats per row of x: the same bound, with the weight transposed."""
    layer = quantized_linear(nn.Linear(96, 40, bias=False), scheme).to(device)
    x = normal((3, 96), seed=2).to(device).requires_grad_()
    ahead = normal((3, 40), seed=3)
    layer(x).backward(ahead.to(device))
    assert x.grad is not None
    weight = layer.quantized_weight.dequantize(torch.float32).cpu()
    exact = ahead.double().tolist(), weight.t().double().tolist()
    assert oracle.linear_error(x.grad.cpu().double().tolist(), *exact) <= 1
