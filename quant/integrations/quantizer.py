"""How transformers quantizes a model on load, saves it and loads it again: the `HfQuantizer` of our schemes.

On load the skeleton on the meta device gets quantized layers first (`quant.convert.replace_layers`, so the choice of
layers is that of `quant.quantize`). Then transformers reads one weight after the other, casts it to the model's dtype
and hands it to `QuantizeWeight`, whose codes take its place: the float model never exists. The codes are those of the
weight *in the dtype asked for*: a float32 checkpoint loaded with `dtype=torch.bfloat16` is rounded first.

A saved model needs no such step: the names, shapes and dtypes in the file are those of the layers. For models that were
quantized in memory there is `quant.integrations.marking`.

Refused: pickled weights, offloading to disk while quantizing (transformers would read the float weights back from the
original file), a checkpoint that lacks a part of a quantized weight (transformers would fill it with memory as it found
it), and tensors of another scheme than the configuration's.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.base import HfQuantizer

from quant.convert import dequantize, replace_layers
from quant.errors import QuantError
from quant.integrations.loading import check_loaded
from quant.integrations.mixed_precision_config import config_of
from quant.integrations.quantization_config import OurConfig
from quant.modules import QuantizedLinear


class QuantizeWeight(ConversionOps):  # type: ignore[misc]
    """Turns the weight of one layer, as it comes from the file, into the tensors that its quantized layer stores.

    What cannot be quantized is told in `errors`: transformers would catch an exception and raise one of its own. The
    names of what is stored are noted in `found`.
    """

    def __init__(self, errors: list[str], found: set[str]) -> None:
        self.errors, self.found = errors, found

    def convert(self, input_dict: dict[str, Any], model: Any = None, **_: Any) -> dict[str, Tensor]:
        """input_dict: name of each weight -> tensor or [tensor]; returns name -> tensor of each stored part. Several
        weights come from checkpoints that hold in one piece what are two in memory.
        """
        converted = {}
        for name, value in input_dict.items():
            tensor = value[0] if isinstance(value, list) else value
            path, _dot, last = name.rpartition(".")
            layer = model.get_submodule(path)
            if last != "weight" or not isinstance(layer, QuantizedLinear):
                converted[name] = tensor
                continue
            try:
                converted.update({f"{path}.{part}": stored for part, stored in layer.encode(tensor).items()})
            except QuantError as error:
                self.errors.append(f"{path}: {error}")
        self.found.update(converted)
        return converted


class QuantizerForTransformers(HfQuantizer):  # type: ignore[misc]
    """Called by `from_pretrained` and `save_pretrained`; not by users."""

    quantization_config: OurConfig

    def __init__(self, quantization_config: OurConfig, **kwargs: Any) -> None:
        # A copy, because the layers' names are written into it, and one configuration may load several models.
        super().__init__(copy.deepcopy(quantization_config), **kwargs)
        self.errors: list[str] = []
        self._found: set[str] = set()

    def validate_environment(self, *_: Any, device_map: Any = None, **__: Any) -> None:
        """Raises:
        QuantError: a device map with "disk" for a model that is to be quantized.
        """
        if not self.pre_quantized and isinstance(device_map, dict) and "disk" in device_map.values():
            raise QuantError(
                "a model cannot be quantized while it is offloaded to disk: quantize the checkpoint first (quant "
                "quantize MODEL OUT), or leave out 'disk' in device_map"
            )

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        """Whether `param_name` is the weight of a layer that waits for its codes."""
        path, _dot, name = param_name.rpartition(".")
        return not self.pre_quantized and name == "weight" and isinstance(model.get_submodule(path), QuantizedLinear)

    def get_quantize_ops(self) -> QuantizeWeight:
        """What `from_pretrained` converts such a weight with."""
        return QuantizeWeight(self.errors, self._found)

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """As transformers has it; called for every tensor of a quantized checkpoint, whose names are noted."""
        self._found.update(converter.target_patterns)
        new: torch.dtype | None = super().get_new_dtype(converter, param, dtype)
        return new

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **_: Any) -> None:
        pickles = [name for name in checkpoint_files or () if not str(name).endswith(".safetensors")]
        if pickles:
            raise QuantError(
                f"{pickles[0]} is no safetensors file: pickled weights are refused because they can run code when "
                "read: convert them where you trust them (transformers' save_pretrained writes safetensors)"
            )
        report = replace_layers(model, self.quantization_config.choose(model))
        self.quantization_config = config_of(report.schemes)

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        if self.errors:
            raise QuantError("; ".join(self.errors[:3]))
        for name, layer in quantized_layers(model):
            if not self.pre_quantized:
                self._found.add(f"{name}.bias")  # which is not converted, and so not noted
            check_loaded(name, layer, self._found)
        return model

    def get_state_dict_and_metadata(self, model: Any) -> tuple[None, dict[str, str]]:
        """Nothing of its own; `save_pretrained` calls it before it writes the configuration, which is brought up to
        date here with the layers that are really there.
        """
        layers = dict(quantized_layers(model))
        if layers:
            model.config.quantization_config = self.quantization_config = config_of_layers(layers)
        else:
            self.remove_quantization_config(model)
        return None, {}

    def dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        """Float layers again, each in the dtype it had; the whole model in `dtype` where one is given."""
        model = dequantize(model)
        return model if dtype is None else model.to(dtype)

    def is_serializable(self, **_: Any) -> bool:
        """`save_pretrained` writes plain tensors."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Gradients flow to the activations: adapters on top can be trained, the codes cannot."""
        return True

    @property
    def is_compileable(self) -> bool:
        """`torch.compile` works, without graph breaks."""
        return True


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantizedLinear]]:
    """Name and module of each quantized layer of `model`, in its order."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, QuantizedLinear))


def config_of_layers(layers: dict[str, QuantizedLinear]) -> OurConfig:
    """The configuration of a model with these quantized layers, name -> module."""
    return config_of({name: layer.scheme for name, layer in layers.items()})
