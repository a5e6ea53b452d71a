"""What a model that transformers loads must have: the layers that its configuration names, and every part of each.

transformers goes on where something is missing: it fills the gap with memory as it found it, and says so in a report.
For a quantized layer that is never right, so it is an error here.
"""

from collections.abc import Mapping
from typing import Any

import torch

from quant.assignment import Assignment
from quant.errors import QuantError
from quant.linears import is_linear
from quant.modules import QuantizedLinear
from quant.schemes import Blockwise, Scheme
from quant.tensor import empty_stored


def named_layers(model: Any, schemes: Mapping[str, Scheme]) -> Assignment:
    """The layers that a saved configuration names, with their schemes. A model without head (`AutoModel`) has them
    without its prefix, one with another head lacks the old one.

    Raises:
        QuantError: a name that is no linear layer of `model`.
    """
    # Dictionaries: ordered, and a name is looked up without comparing it to all others.
    linear = dict.fromkeys(name for name, module in model.named_modules() if is_linear(module))
    prefix = f"{model.base_model_prefix}."
    headless = model.base_model is model
    chosen: dict[str, Scheme] = {}
    unknown = []
    for name, scheme in schemes.items():
        candidates = (name, name.removeprefix(prefix)) if headless else (name, prefix + name)
        found = next((candidate for candidate in candidates if candidate in linear), None)
        if found is not None:
            chosen[found] = scheme
        elif name.startswith(prefix):
            unknown.append(name)
    if unknown or not chosen:
        names = ", ".join((unknown or list(schemes))[:3])
        raise QuantError(
            f"{type(model).__name__} has no linear layer {names} that the checkpoint's quantization_config names: "
            "config.json and the model do not belong together"
        )
    return Assignment(chosen, {name: "float in the checkpoint" for name in linear if name not in chosen})


def check_loaded(name: str, layer: QuantizedLinear, found: set[str]) -> None:
    """Check that transformers has filled the layer called `name`.

    Args:
        found: names of tensors that were in the checkpoint. A loaded tensor also carries a mark of transformers', which
            is gone where accelerate has moved it.

    Raises:
        QuantError: a part was not in the checkpoint, has another shape or dtype, or is of another scheme.
    """
    expected = empty_stored(layer.scheme, torch.Size((layer.out_features, layer.in_features)), "meta")
    dispatched = hasattr(layer, "_hf_hook")
    parts = {**layer.stored, **({} if layer.bias is None else {"bias": layer.bias})}
    for part, tensor in parts.items():
        full = f"{name}.{part}"
        if not (full in found if dispatched else getattr(tensor, "_is_hf_initialized", False)):
            raise QuantError(
                f"{full} is not in the checkpoint: it is half-written, save or quantize it again; or the layer is new, "
                "exclude it"
            )
        if part in expected and (tensor.dtype, tensor.shape) != (expected[part].dtype, expected[part].shape):
            wanted = f"{expected[part].dtype} {list(expected[part].shape)}"
            raise QuantError(f"{full} is {tensor.dtype} {list(tensor.shape)}, {layer.scheme} stores {wanted}")
    if isinstance(layer.scheme, Blockwise) and not layer.get_buffer("weight_format").is_meta:
        tag = tuple(layer.get_buffer("weight_format").tolist())
        if tag != layer.scheme.format_tag:
            raise QuantError(
                f"{name}: its tensors are of format {tag}, {layer.scheme} has {layer.scheme.format_tag}: the "
                "checkpoint's quantization_config is not that of its tensors"
            )
