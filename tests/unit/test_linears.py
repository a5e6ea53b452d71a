"""Which modules are linear layers, how they are read as a weight [out, in], and how they are rebuilt."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from quant import QuantError
from quant.linears import build_linear, is_linear, read_linear
from tests import oracle
from tests.strategies import bits, normal


class Scaled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def upper_triangular_conv1d(width: int = 3) -> nn.Module:
    """A square Conv1D whose weight shows a missing transposition."""
    layer = Conv1D(width, width)
    layer.weight = nn.Parameter(torch.triu(torch.arange(1.0, 1 + width * width).view(width, width)))
    module: nn.Module = layer
    return module


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(2, 3), True),
        (Conv1D(3, 2), True),
        (Scaled(2, 3), False),
        (nn.LazyLinear(3), False),
        (nn.Bilinear(2, 2, 3), False),
        (nn.Embedding(2, 3), False),
        (nn.Conv1d(2, 3, 1), False),
        (nn.Identity(), False),
        (nn.MultiheadAttention(4, 1).out_proj, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exactly_linear_and_conv1d_count(module: nn.Module, expected: bool) -> None:
    assert is_linear(module) is expected
    if not expected:
        with pytest.raises(
            QuantError, match=rf"expected nn.Linear or transformers' Conv1D, got .*{type(module).__name__}"
        ):
            read_linear(module)


def test_a_class_that_is_merely_named_conv1d_does_not_count() -> None:
    assert not is_linear(type("Conv1D", (nn.Module,), {})())


@pytest.mark.parametrize("bias", [True, False])
def test_reading_shares_the_weight_and_the_bias(bias: bool) -> None:
    layer = nn.Linear(2, 3, bias=bias)
    parts = read_linear(layer)
    assert parts.weight is layer.weight
    assert parts.bias is layer.bias
    assert parts.layer_type is nn.Linear


@pytest.mark.parametrize("shape", [(2, 5), (3, 3)], ids=["oblong", "square"])
def test_conv1d_is_read_as_out_by_in(shape: tuple[int, int]) -> None:
    in_features, out_features = shape
    layer = Conv1D(out_features, in_features)
    layer.bias = nn.Parameter(normal((out_features,), seed=1))
    parts = read_linear(layer)
    x = normal((4, in_features), seed=2)
    assert parts.weight.shape == (out_features, in_features)
    # Conv1D itself, and a linear layer with what was read: both within the rounding of the exact sums.
    assert parts.bias is not None
    exact = x.tolist(), layer.weight.t().tolist(), layer.bias.tolist()
    assert oracle.linear_error(layer(x).tolist(), *exact) <= 1
    assert oracle.linear_error(nn.functional.linear(x, parts.weight, parts.bias).tolist(), *exact) <= 1


@pytest.mark.parametrize(
    "layer", [nn.Linear(2, 5), nn.Linear(3, 3, bias=False), Conv1D(5, 2), upper_triangular_conv1d()]
)
def test_a_rebuilt_layer_has_the_type_the_bits_the_bias_and_the_state_of_the_original(layer: nn.Module) -> None:
    parts = read_linear(layer)
    rebuilt = build_linear(parts.weight.detach().clone(), parts.bias, parts.layer_type)
    assert type(rebuilt) is type(layer)
    assert rebuilt.bias is layer.bias
    assert bits(rebuilt.get_parameter("weight")) == bits(layer.get_parameter("weight"))
    assert rebuilt.get_parameter("weight").is_contiguous()
    assert rebuilt.state_dict().keys() == layer.state_dict().keys()
    x = normal((4, parts.weight.shape[1]), seed=3)
    assert torch.equal(rebuilt(x), layer(x))
    assert rebuilt.extra_repr() == layer.extra_repr()


def test_a_conv1d_without_transposition_would_show() -> None:
    """The same triangular weight read the wrong way round gives another output."""
    layer = upper_triangular_conv1d()
    parts = read_linear(layer)
    x = torch.eye(3)
    assert torch.equal(nn.functional.linear(x, parts.weight, parts.bias), layer(x))
    assert not torch.equal(nn.functional.linear(x, parts.weight.t(), parts.bias), layer(x))


@pytest.mark.parametrize("trainable", [True, False])
def test_a_frozen_weight_is_read_and_rebuilt_frozen(trainable: bool) -> None:
    """Also where no graph is recorded, in which the transposed view of a Conv1D never requires a gradient."""
    for layer in (nn.Linear(2, 3), Conv1D(3, 2)):
        layer.weight.requires_grad_(trainable)
        with torch.no_grad():
            parts = read_linear(layer)
        assert parts.trainable is trainable
        rebuilt = build_linear(parts.weight.detach().clone(), parts.bias, parts.layer_type, parts.trainable)
        assert rebuilt.get_parameter("weight").requires_grad is trainable
