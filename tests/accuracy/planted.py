"""Faults that quantization libraries have shipped, planted in a quantized model: what the gates must not pass.

Each takes the embedded model's float32 weights, quantizes them as a scheme does and breaks one thing. NF4's own scales
cannot be planted in 16 bits: this model is stored in bfloat16, so that each absmax is one already; those of double
quantization can.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from quant import quantize, reference_model
from quant.codebooks import LEVELS
from quant.integrations.transformers import load_model
from quant.modules import BlockwiseLinear, QuantizedLinear, W8A16Linear
from quant.schemes import SCHEMES, Blockwise

LAYER = "model.layers.4.self_attn.o_proj"
"""The layer whose loss or change moves the results least, of all 24 (W8A16, measured): the hardest to see."""
MOVED_LEVEL = 8
"""NF4's smallest positive one, 0.0796."""
MOVED_BY = 0.01
"""Of itself: 0.0008, a hundredth of the gap that it lies in."""


def float_model() -> Any:
    return load_model(reference_model.FOLDER, torch.float32)


def quantized(scheme: str) -> Any:
    return quantize(float_model(), SCHEMES[scheme])


def layers(model: nn.Module) -> dict[str, QuantizedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}


def level_moved(scheme: str) -> Any:
    """One of the 16 levels is read as another number than it was written with: what the difference of the weights gives
    is added to the outputs of layers that are otherwise as they should be.
    """
    model = quantized(scheme)
    for layer in layers(model).values():
        assert isinstance(layer, BlockwiseLinear)
        weight = layer.quantized_weight
        codes = torch.stack([weight.codes >> 4, weight.codes & 15], dim=1).flatten()
        absmax = weight.scales.repeat_interleave(layer.scheme.block_size)[: len(codes)]
        moved = MOVED_BY * LEVELS[layer.scheme.codebook][MOVED_LEVEL] * absmax * (codes == MOVED_LEVEL)
        error = moved.view(layer.out_features, layer.in_features)
        layer.register_forward_hook(lambda layer, x, output, error=error: output + functional.linear(x[0], error))
    return model


def block_size_doubled(scheme: str) -> Any:
    """Quantized with blocks twice as long as the scheme's: half the scales, more error."""
    longer = SCHEMES[scheme]
    assert isinstance(longer, Blockwise)
    return quantize(float_model(), replace(longer, block_size=2 * longer.block_size))


def scales_in_bfloat16(scheme: str) -> Any:
    """Scales kept in 16 bits: each off by at most 0.4 %."""
    model = quantized(scheme)
    for layer in layers(model).values():
        scales = layer.weight_scale if isinstance(layer, W8A16Linear) else layer.weight_absmax_scale
        assert isinstance(scales, torch.Tensor)
        scales.copy_(scales.bfloat16())
    return model


def scales_of_a_layer_permuted(scheme: str) -> Any:
    """In one layer each row or block has another one's scale."""
    model = quantized(scheme)
    layer = layers(model)[LAYER]
    scales = layer.weight_scale if isinstance(layer, W8A16Linear) else layer.weight_absmax
    assert isinstance(scales, torch.Tensor)
    scales.copy_(scales.roll(1))
    return model


def a_layer_left(scheme: str) -> Any:
    """One layer is not quantized: the model is better than it should be, and larger."""
    source = float_model()
    linear = copy.deepcopy(source.get_submodule(LAYER))
    model = quantize(source, SCHEMES[scheme])
    model.set_submodule(LAYER, linear)
    return model


def a_norm_changed(scheme: str) -> Any:
    """One weight of what stays in floats is off by a thousandth."""
    model = quantized(scheme)
    model.model.norm.weight.data[7] *= 1.001
    return model


PLANTED: list[tuple[Callable[[str], Any], str, set[str]]] = [
    (level_moved, "nf4", {"change"}),
    (block_size_doubled, "nf4", {"change", "layers"}),
    (block_size_doubled, "fp4", {"change", "layers"}),
    (block_size_doubled, "int4", {"change", "KL divergence", "layers"}),
    (scales_in_bfloat16, "w8a16", {"change"}),
    (scales_in_bfloat16, "nf4-dq", {"change"}),
    (scales_of_a_layer_permuted, "w8a16", {"change", "KL divergence"}),
    (scales_of_a_layer_permuted, "nf4", {"change", "KL divergence"}),
    (a_layer_left, "w8a16", {"change", "layers"}),
    (a_layer_left, "nf4", {"change", "layers"}),
    (a_norm_changed, "nf4", {"floats"}),
]
"""Fault, scheme, and the checks that must be a regression. Where the KL check is not among them the fault costs less
than it promises to see, or about as much: docs/accuracy-gates.md has the figures.
"""

FIRST = list({(plant, frozenset(red)): (plant, scheme, red) for plant, scheme, red in reversed(PLANTED)}.values())[::-1]
"""Each fault once for every set of checks that must see it, for the suite: the first scheme of those. The figures of
all are written by `python -m tests.accuracy.power`.
"""
