"""Linear layers whose weight is stored quantized: `W8A16Linear` and `BlockwiseLinear`.

They hold what `quant.tensor` stores, as buffers: integer tensors cannot be trained, and as buffers they survive
`model.requires_grad_(True)` and optimizers that walk the parameters. The bias stays a parameter of the model's dtype.

* Output dtype is the input's dtype; under autocast both are the autocast dtype, as for `nn.Linear`.
* `.to(dtype)`, `.half()`, `.bfloat16()` change the bias and the dtype that `dequantize()` returns. Codes and float32
  scales keep their bits: narrowed scales would be a second, silent quantization.
* The forward never changes `state_dict()`.

Refused: inputs whose last dimension is not `in_features`, and loading tensors of another scheme.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.kernels import blockwise_linear, w8a16_linear
from quant.linears import as_matrix, build_linear, read_linear
from quant.numerics.checks import FLOAT_DTYPES
from quant.schemes import W8A16, Blockwise, Scheme
from quant.tensor import QuantizedTensor, dequantize_stored, empty_stored, quantize_tensor


class QuantizedLinear(nn.Module):
    """What both layers share. Not instantiated by users: see `W8A16Linear`, `BlockwiseLinear`.

    Attributes:
        in_features, out_features: as in `nn.Linear`.
        scheme: the scheme of the weight.
        dtype: dtype of the weight before quantization, followed through `.to(dtype)`.
        bias: parameter [out] or None.
    """

    scheme_type: ClassVar[type[Scheme]]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scheme: Scheme,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """A layer of the right shapes with undefined codes, to be loaded into; `from_linear` makes one from a layer."""
        super().__init__()
        if not isinstance(scheme, self.scheme_type):
            raise QuantError(f"{type(self).__name__} takes a {self.scheme_type.__name__} scheme, got {scheme!r}")
        self.in_features, self.out_features, self.scheme = in_features, out_features, scheme
        self.dtype = dtype or torch.get_default_dtype()
        self._layer_type: type[nn.Module] = nn.Linear
        self._trainable = True
        for name, tensor in empty_stored(scheme, torch.Size((out_features, in_features)), device).items():
            self.register_buffer(name, tensor)
        self._stored_names = tuple(self._buffers)
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=self.dtype)) if bias else None

    @classmethod
    def _from_linear(cls, linear: nn.Module, scheme: Scheme) -> Self:
        parts = read_linear(linear)
        out_features, in_features = parts.weight.shape
        quantized = quantize_tensor(parts.weight, scheme)
        layer = cls(in_features, out_features, scheme, bias=False, device="meta", dtype=parts.weight.dtype)
        for name, tensor in quantized.stored.items():
            setattr(layer, name, tensor)
        layer.bias = parts.bias
        layer._layer_type, layer._trainable = parts.layer_type, parts.trainable
        return layer.train(linear.training)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """The `weight` of the float layer that this layer stands for, laid out as that layer's type does it, as
        [out, in]; a view.

        Raises:
            QuantError: another shape.
        """
        matrix = as_matrix(weight, self._layer_type)
        if matrix.shape != (self.out_features, self.in_features):
            expected = [self.out_features, self.in_features]
            raise QuantError(f"{self}: expected a weight [out, in] = {expected}, got {list(matrix.shape)}")
        return matrix

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        """What this layer stores (name -> tensor) for the `weight` of the float layer, as `as_matrix` takes it.

        Raises:
            QuantError: another shape, NaN or Inf.
        """
        return dict(quantize_tensor(self.as_matrix(weight), self.scheme).stored)

    @property
    def stored(self) -> dict[str, Tensor]:
        """Name -> tensor of the quantized weight, without the bias (see `quant.tensor`)."""
        return {name: self.get_buffer(name) for name in self._stored_names}

    @property
    def quantized_weight(self) -> QuantizedTensor:
        """The weight as a value; shares the layer's tensors."""
        return QuantizedTensor(self.scheme, torch.Size((self.out_features, self.in_features)), self.dtype, self.stored)

    def dequantize(self) -> nn.Module:
        """A float layer of the type this one was made from, with the weight that the codes stand for, in
        `self.dtype` (saturated at its finite range), frozen if that layer's weight was.
        """
        shape = torch.Size((self.out_features, self.in_features))
        weight = dequantize_stored(self.scheme, self.stored, shape, self.dtype)
        return build_linear(weight, self.bias, self._layer_type, self._trainable).train(self.training)

    def _check_input(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise QuantError(f"{self}: expected input [..., {self.in_features}], got {list(x.shape)}")
        if x.dtype not in FLOAT_DTYPES:
            names = ", ".join(map(dtype_name, FLOAT_DTYPES))
            raise QuantError(f"{self}: expected a float input, got {x.dtype}: use one of {names}")
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and x.dtype != torch.float64:
            return x.to(torch.get_autocast_dtype(device))
        return x

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: self._buffers.pop(name) for name in self._stored_names}
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        finally:
            self._buffers.update(kept)
        for name, tensor in kept.items():
            assert tensor is not None
            moved = fn(tensor)
            # A change of dtype is refused for the weight's tensors, a change of device is followed.
            self._buffers[name] = moved if moved.dtype == tensor.dtype else tensor.to(moved.device)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Copying would truncate a float weight to codes in silence, and read one codebook's codes as another's.
        error_msgs: list[str] = args[-1]
        for name, tensor in self.stored.items():
            loaded = state_dict.get(prefix + name)
            if loaded is not None and loaded.dtype != tensor.dtype:
                held = f"the checkpoint holds {loaded.dtype}"
                error_msgs.append(f"{prefix}{name}: {self.scheme} stores {tensor.dtype}, {held}")
                return
        tag = state_dict.get(f"{prefix}weight_format")
        if isinstance(self.scheme, Blockwise) and tag is not None and tuple(tag.tolist()) != self.scheme.format_tag:
            error_msgs.append(
                f"{prefix}weight_format: tensors of format {tuple(tag.tolist())} do not fit {self.scheme}, whose "
                f"format is {self.scheme.format_tag}: quantize the model with the scheme of the checkpoint"
            )
            return
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}, scheme={self.scheme}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class W8A16Linear(QuantizedLinear):
    """x W^T + b with W in int8, one float32 scale per output row.

    State: `weight` int8 [out * in], `weight_scale` float32 [out], `bias` [out] if any.
    """

    scheme_type = W8A16
    weight: Tensor
    weight_scale: Tensor

    @classmethod
    def from_linear(cls, linear: nn.Module, scheme: W8A16 | None = None) -> Self:
        """Quantize `linear` (`nn.Linear` or transformers' `Conv1D`; not changed, the bias parameter is shared).

        Raises:
            QuantError: another kind of layer, NaN or Inf in the weight.
        """
        return cls._from_linear(linear, scheme or W8A16())

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., in] -> [..., out], same dtype. Raises QuantError for another last dimension."""
        codes = self.weight.view(self.out_features, self.in_features)
        return w8a16_linear(self._check_input(x), codes, self.weight_scale, self.bias)


class BlockwiseLinear(QuantizedLinear):
    """x W^T + b with W in 4-bit codes and one absmax per block (NF4, FP4, INT4).

    State: `weight` uint8 [ceil(out*in/2)], `weight_absmax` (and `weight_absmax_scale`, `weight_absmax_offset` with
    double quantization), `weight_format` uint8 [4], `bias` [out] if any.
    """

    scheme_type = Blockwise
    scheme: Blockwise
    weight: Tensor
    weight_absmax: Tensor
    weight_absmax_scale: Tensor
    weight_absmax_offset: Tensor

    @classmethod
    def from_linear(cls, linear: nn.Module, scheme: Blockwise) -> Self:
        """Quantize `linear` (`nn.Linear` or transformers' `Conv1D`; not changed, the bias parameter is shared).

        Raises:
            QuantError: another kind of layer or scheme, NaN or Inf in the weight.
        """
        return cls._from_linear(linear, scheme)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., in] -> [..., out], same dtype. Raises QuantError for another last dimension."""
        scheme, double = self.scheme, self.scheme.double_quant
        return blockwise_linear(
            self._check_input(x),
            self.weight,
            self.weight_absmax,
            self.weight_absmax_scale if double else None,
            self.weight_absmax_offset if double else None,
            scheme.codebook,
            scheme.block_size,
            self.out_features,
            self.bias,
        )


def quantized_linear(linear: nn.Module, scheme: Scheme) -> QuantizedLinear:
    """The quantized layer for `linear` under `scheme`."""
    if isinstance(scheme, Blockwise):
        return BlockwiseLinear.from_linear(linear, scheme)
    assert isinstance(scheme, W8A16)
    return W8A16Linear.from_linear(linear, scheme)
