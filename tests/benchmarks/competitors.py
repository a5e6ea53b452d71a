"""The layers that are timed beside each other: ours, nn.Linear, and other ways to hold a weight in 8 or 4 bits.

Each is a module that is built from a float32 weight [out, in] and keeps what it reads as parameters and buffers.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant import INT4, NF4, W8A16, quantize_tensor
from quant.modules import quantized_linear
from quant.schemes import Scheme


def linear(weight: Tensor) -> nn.Linear:
    """A layer without bias that holds `weight` itself."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


class Int8Codes(nn.Module):
    """The codes of W8A16, and its scales in `dtype`."""

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        quantized = quantize_tensor(weight, W8A16())
        self.register_buffer("codes", quantized.codes)
        self.register_buffer("scales", quantized.scales.to(dtype))


class OriginalReport(Int8Codes):
    """As the report did it that this project grew out of: convert the codes to x's dtype, multiply, scale."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.codes.to(x.dtype)) * self.scales


class Int8Pack(Int8Codes):
    """torch's own product with int8 weights, `_weight_int8pack_mm`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x, self.codes, self.scales)


class Int4Pack(nn.Module):
    """torch's own int4 weights, `_weight_int4pack_mm_for_cpu`, with the codes of INT4 in blocks of 64."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        quantized = quantize_tensor(weight, INT4(64))
        out_features, in_features = weight.shape
        codes = torch.stack([quantized.codes >> 4, quantized.codes & 15], -1).view(weight.shape).int()
        scales = (quantized.stored["weight_absmax"] / 7).view(out_features, in_features // 64).t()
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", torch.stack([scales, torch.zeros_like(scales)], -1).bfloat16().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, 64, self.scales)
        return y


class Read(nn.Module):
    """No product: the bytes that our layer of `scheme` holds are read once, as fast as torch sums integers."""

    def __init__(self, weight: Tensor, scheme: Scheme) -> None:
        super().__init__()
        for name, part in quantize_tensor(weight, scheme).stored.items():
            self.register_buffer(name, part)
        self._names = tuple(self._buffers)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_buffer(name) for name in self._names]
        return torch.stack([part.view(-1).view(torch.int64).sum() for part in parts if part.nbytes > 8])


def bnb_nf4(weight: Tensor) -> nn.Module:
    """bitsandbytes' Linear4bit, block size 64."""
    layer = bnb.nn.Linear4bit(
        weight.shape[1], weight.shape[0], bias=False, compute_dtype=torch.bfloat16, compress_statistics=False,
        quant_type="nf4",
    )  # fmt: skip
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=False)
    quantized: nn.Module = layer.to("cpu").eval()
    return quantized


def bnb_int8(weight: Tensor) -> nn.Module:
    """bitsandbytes' Linear8bitLt as transformers makes it (LLM.int8)."""
    layer = bnb.nn.Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False, threshold=6.0)
    layer.weight = bnb.nn.Int8Params(weight.half(), requires_grad=False, has_fp16_weights=False)
    quantized: nn.Module = layer.to("cpu").eval()
    return quantized


def torchao_int8(weight: Tensor) -> nn.Module:
    """torchao's int8 weight-only layer, compiled, which is how torchao is meant to be used."""
    quantization: Any = importlib.import_module("torchao.quantization")
    layer = linear(weight.bfloat16())
    quantization.quantize_(layer, quantization.Int8WeightOnlyConfig(version=2))
    layer.compile(dynamic=False)
    return layer


@dataclass(frozen=True)
class Competitor:
    """dtype: of x; build: float32 weight [out, in] -> layer; product: whether it computes x W^T."""

    dtype: torch.dtype
    build: Callable[[Tensor], nn.Module]
    product: bool = True


def _ours(scheme: Scheme) -> Callable[[Tensor], nn.Module]:
    return lambda weight: quantized_linear(linear(weight), scheme)


BASELINE = "linear-bf16"
READS = {"w8a16": "read-int8", "w8a16-fp32": "read-int8", "nf4": "read-nf4", "nf4-fp32": "read-nf4"}
"""Ours -> what it is a share of."""

COMPETITORS = {
    BASELINE: Competitor(torch.bfloat16, lambda weight: linear(weight.bfloat16())),
    "linear-fp32": Competitor(torch.float32, linear),
    "read-int8": Competitor(torch.bfloat16, lambda weight: Read(weight, W8A16()), product=False),
    "w8a16": Competitor(torch.bfloat16, _ours(W8A16())),
    "w8a16-fp32": Competitor(torch.float32, _ours(W8A16())),
    "read-nf4": Competitor(torch.bfloat16, lambda weight: Read(weight, NF4()), product=False),
    "nf4": Competitor(torch.bfloat16, _ours(NF4())),
    "nf4-fp32": Competitor(torch.float32, _ours(NF4())),
    "nf4-dq": Competitor(torch.bfloat16, _ours(NF4(double_quant=True))),
    "int4": Competitor(torch.bfloat16, _ours(INT4())),
    "report-bf16": Competitor(torch.bfloat16, lambda weight: OriginalReport(weight, torch.bfloat16)),
    "report-fp32": Competitor(torch.float32, lambda weight: OriginalReport(weight, torch.float32)),
    "torch-int8pack": Competitor(torch.bfloat16, lambda weight: Int8Pack(weight, torch.bfloat16)),
    "torch-int4pack": Competitor(torch.bfloat16, Int4Pack),
    "bnb-nf4": Competitor(torch.bfloat16, bnb_nf4),
    "bnb-int8": Competitor(torch.bfloat16, bnb_int8),
    "torchao-int8": Competitor(torch.bfloat16, torchao_int8),
}
"""In the order in which they run: what the others are compared with comes first."""
