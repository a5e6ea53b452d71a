"""A quantized model and LoRA adapters for it."""

from typing import Any

from peft import LoraConfig

import quant
from quant.integrations.peft import for_quantized_layers
from quant.schemes import Scheme
from tests.models import tiny_phi3
from tests.strategies import normal

TARGETS = ["qkv_proj", "down_proj"]


def base(scheme: Scheme) -> Any:
    """The tiny Phi-3, quantized."""
    return quant.quantize(tiny_phi3(), scheme)


def config(**options: Any) -> LoraConfig:
    """LoRA of rank 4 for two of the four kinds of layers."""
    return for_quantized_layers(LoraConfig(**{"r": 4, "target_modules": TARGETS, **options}))


def with_values(model: Any, matrices: str = "B", std: float = 0.1) -> Any:
    """`model` with the `matrices` of its adapters, B (zeros at first) or A (drawn by torch), filled with noise of width
    `std` that is the same on every CPU.
    """
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if f"lora_{matrices}" in name:
            parameter.data.copy_(normal(parameter.shape, seed=index, std=std))
    return model
