"""What counts as a linear layer: `nn.Linear`, and the `Conv1D` of transformers (GPT-2), whose weight is transposed.

Both are read as a weight [out, in] and a bias, and both can be rebuilt, so that a dequantized GPT-2 has the modules
and the checkpoint layout it started with. The type must match exactly: a subclass may compute something else in its
forward, so it is reported and left alone. `Conv1D` is recognised by name, which keeps transformers out of the
imports.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.errors import QuantError


@dataclass(frozen=True)
class LinearParts:
    """weight: [out, in] (a transposed view for Conv1D); bias: [out] or None; layer_type, trainable: to rebuild it."""

    weight: Tensor
    bias: nn.Parameter | None
    layer_type: type[nn.Module]
    trainable: bool


def is_linear(module: nn.Module) -> bool:
    """Whether `module` is exactly an `nn.Linear` or transformers' `Conv1D`, with a weight that is a parameter."""
    return (type(module) is nn.Linear or _is_conv1d(type(module))) and "weight" in module._parameters


def is_from_bitsandbytes(module: nn.Module) -> bool:
    """Whether the type of `module` comes from bitsandbytes; by name, which keeps it out of the imports."""
    return type(module).__module__.partition(".")[0] == "bitsandbytes"


def is_transposed(module: nn.Module) -> bool:
    """Whether the linear layer `module` keeps its weight as [in, out]."""
    return _is_conv1d(type(module))


def _is_conv1d(layer_type: type) -> bool:
    return layer_type.__name__ == "Conv1D" and layer_type.__module__ == "transformers.pytorch_utils"


def read_linear(module: nn.Module) -> LinearParts:
    """Raises:
    QuantError: `module` is not a linear layer in the sense of `is_linear`.
    """
    if not is_linear(module):
        raise QuantError(
            f"expected nn.Linear or transformers' Conv1D, got {type(module).__module__}.{type(module).__qualname__}"
        )
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, nn.Parameter)
    return LinearParts(as_matrix(weight, type(module)), bias, type(module), weight.requires_grad)


def as_matrix(weight: Tensor, layer_type: type[nn.Module]) -> Tensor:
    """The weight [out, in] of a layer of `layer_type` that stores it as `weight`; a view."""
    return weight.t() if _is_conv1d(layer_type) else weight


def build_linear(
    weight: Tensor, bias: nn.Parameter | None, layer_type: type[nn.Module], trainable: bool = True
) -> nn.Module:
    """A layer of `layer_type` computing x weight^T + bias, for weight [out, in]; the bias parameter is shared, not
    copied. trainable: whether the weight requires a gradient.
    """
    out_features, in_features = weight.shape
    with torch.device("meta"):
        if _is_conv1d(layer_type):
            layer, stored = layer_type(out_features, in_features), weight.t().contiguous()
        else:
            layer, stored = nn.Linear(in_features, out_features), weight
    layer.register_parameter("weight", nn.Parameter(stored, requires_grad=trainable))
    layer.register_parameter("bias", bias)
    return layer
