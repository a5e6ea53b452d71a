"""What a model is made of and what a scheme would make of it, without running it: `quant inspect`.

The model may be on the meta device, where a model of any size costs nothing; a scheme is then applied to it for real,
so the sizes are those of actual layers and not of a formula.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from quant.dtypes import dtype_name
from quant.evaluate.footprint import Footprint, footprint
from quant.modules import QuantizedLinear
from quant.variants import count_layers, quantize_as


@dataclass(frozen=True)
class Inspection:
    """A model's composition.

    Attributes:
        layer_types: class name -> count, of modules without children, most frequent first.
        linear_layers, quantized_layers: counts; linear_layers includes the quantized ones.
        size: bytes of parameters and buffers and by dtype.
        example: dtypes of the tensors of the first quantized layer, name -> "dtype [shape]"; example_name: that
            layer's name.
    """

    layer_types: dict[str, int]
    linear_layers: int
    quantized_layers: int
    size: Footprint
    example_name: str | None
    example: dict[str, str]


@dataclass(frozen=True)
class Sizing:
    """A model before a scheme, and after it.

    Attributes:
        model, dtype: as asked for; the dtype by name, of the unquantized parameters.
        scheme: name of the variant; before, after: the model without and with it. scheme and after are None where none
            was asked for.
        left: name -> reason, for every linear layer that the scheme left alone.
    """

    model: str
    dtype: str
    scheme: str | None
    before: Inspection
    after: Inspection | None
    left: dict[str, str]


def inspect_model(model: Any) -> Inspection:
    """Count and size `model`; it is not changed."""
    leaves = Counter(type(module).__name__ for module in model.modules() if not any(module.children()))
    quantized, linear = count_layers(model)
    name, example = None, {}
    for candidate, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            name = candidate
            example = {key: f"{dtype_name(t.dtype)} {list(t.shape)}" for key, t in module.state_dict().items()}
            break
    return Inspection(dict(leaves.most_common()), linear, quantized, footprint(model), name, example)


def size_model(model: Any, name: str, dtype: str, variant: str | None, block_size: int = 64) -> Sizing:
    """Inspect `model` before and, where `variant` (one of ours) is given, after quantizing it in place.

    Raises:
        QuantError: the variant cannot be applied.
    """
    before = inspect_model(model)
    if variant is None:
        return Sizing(name, dtype, None, before, None, {})
    left = quantize_as(variant, model, block_size)
    return Sizing(name, dtype, variant, before, inspect_model(model), left)
