"""How transformers quantizes a model on load, saves it and loads it again: the `HfQuantizer` of our schemes.

On load the skeleton on the meta device gets quantized layers first (`quant.convert.replace_layers`, so the choice of
layers is that of `quant.quantize`). Then transformers reads one weight after the other, casts it to the model's dtype
and hands it to `QuantizeWeight`, whose codes take its place: the float model never exists. The codes are those of the
weight *in the dtype asked for*: a float32 checkpoint loaded with `dtype=torch.bfloat16` is rounded first.

A saved model needs no such step: the names, shapes and dtypes in the file are those of the layers. A model quantized in
memory becomes one that transformers can save by `mark`, which follows `quant.quantize` and `quant.dequantize`.

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
from transformers.modeling_utils import PreTrainedModel
from transformers.quantizers.base import HfQuantizer

from quant.convert import dequantize, replace_layers
from quant.errors import QuantError
from quant.integrations.quantization_config import QuantConfig
from quant.linears import is_linear
from quant.modules import QuantizedLinear
from quant.schemes import Blockwise
from quant.selection import Selection, select


class QuantizeWeight(ConversionOps):  # type: ignore[misc]
    """Turns the weight of one layer, as it comes from the file, into the tensors that its quantized layer stores.

    What cannot be quantized is told in `errors`: transformers would catch an exception and raise one of its own.
    """

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors

    def convert(self, input_dict: dict[str, Any], model: Any = None, **_: Any) -> dict[str, Tensor]:
        """input_dict: name of the weight -> tensor or [tensor]; returns name -> tensor of each stored part."""
        ((name, value),) = input_dict.items()
        weight = value[0] if isinstance(value, list) else value
        path = name.removesuffix(".weight")
        try:
            stored = model.get_submodule(path).encode(weight)
        except QuantError as error:
            self.errors.append(f"{path}: {error}")
            return {}
        return {f"{path}.{part}": tensor for part, tensor in stored.items()}


class QuantizerForTransformers(HfQuantizer):  # type: ignore[misc]
    """Called by `from_pretrained` and `save_pretrained`; not by users."""

    quantization_config: QuantConfig

    def __init__(self, quantization_config: QuantConfig, **kwargs: Any) -> None:
        # A copy, because the layers' names are written into it, and one configuration may load several models.
        super().__init__(copy.deepcopy(quantization_config), **kwargs)
        self.errors: list[str] = []

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
        return QuantizeWeight(self.errors)

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **_: Any) -> None:
        pickles = [name for name in checkpoint_files or () if not str(name).endswith(".safetensors")]
        if pickles:
            raise QuantError(
                f"{pickles[0]} is no safetensors file: pickled weights are refused because they can run code when "
                "read: convert them where you trust them (transformers' save_pretrained writes safetensors)"
            )
        config = self.quantization_config
        if config.quantized_modules is None:
            selection = select(model, config.include, config.exclude)
        else:
            selection = _named_layers(model, config.quantized_modules)
        report = replace_layers(model, config.scheme, selection)
        self.quantization_config = QuantConfig.of(config.scheme, report.converted)

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        if self.errors:
            raise QuantError("; ".join(self.errors[:3]))
        for name, layer in _quantized_layers(model):
            _check_loaded(name, layer)
        return model

    def get_state_dict_and_metadata(self, model: Any) -> tuple[None, dict[str, str]]:
        """Nothing of its own; `save_pretrained` calls it before it writes the configuration, which is brought up to
        date here with the layers that are really there.
        """
        model.config.quantization_config = self.quantization_config = _config_of(model, self.quantization_config)
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


def mark(model: nn.Module) -> None:
    """Make the transformers models in `model`, or the one it is, known to transformers as what they are now: quantized
    by this library, or float again.
    """
    for pretrained in _outermost_pretrained(model):
        layers = dict(_quantized_layers(pretrained))
        ours = isinstance(getattr(pretrained, "hf_quantizer", None), QuantizerForTransformers)
        if layers:
            scheme = next(iter(layers.values())).scheme
            quantizer = QuantizerForTransformers(QuantConfig.of(scheme, layers), pre_quantized=True)
            pretrained.hf_quantizer = quantizer
            pretrained.is_quantized, pretrained.quantization_method = True, quantizer.quantization_config.quant_method
            pretrained.config.quantization_config = quantizer.quantization_config
        elif ours:
            pretrained.hf_quantizer.remove_quantization_config(pretrained)


def _outermost_pretrained(module: nn.Module) -> Iterator[Any]:
    if isinstance(module, PreTrainedModel):
        yield module
    else:
        for child in module.children():
            yield from _outermost_pretrained(child)


def _quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantizedLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, QuantizedLinear))


def _config_of(model: nn.Module, config: QuantConfig) -> QuantConfig:
    """The configuration of `model` as it is; `config` is the one that it was loaded or quantized with."""
    layers = dict(_quantized_layers(model))
    schemes = {layer.scheme for layer in layers.values()}
    if len(schemes) > 1:
        raise QuantError(
            f"{type(model).__name__} has layers of several schemes ({', '.join(sorted(map(str, schemes)))}), which a "
            "configuration of transformers cannot tell: save it with safetensors.torch.save_model"
        )
    return QuantConfig.of(schemes.pop() if schemes else config.scheme, layers)


def _named_layers(model: Any, names: list[str]) -> Selection:
    """The layers that a saved configuration names; a model without head (`AutoModel`) has them without its prefix, and
    lacks the head.

    Raises:
        QuantError: a name that is no linear layer of `model`.
    """
    linear = [name for name, module in model.named_modules() if is_linear(module)]
    prefix = f"{model.base_model_prefix}."
    headless = model.base_model is model
    chosen, unknown = [], []
    for name in names:
        candidates = (name, name.removeprefix(prefix)) if headless else (name, prefix + name)
        found = next((candidate for candidate in candidates if candidate in linear), None)
        if found is not None:
            chosen.append(found)
        elif not headless or name.startswith(prefix):
            unknown.append(name)
    if unknown or not chosen:
        raise QuantError(
            f"{type(model).__name__} has no linear layer {', '.join(unknown[:3]) or 'of those'} that the checkpoint's "
            "quantization_config names: config.json and the model do not belong together"
        )
    return Selection(tuple(chosen), {name: "float in the checkpoint" for name in linear if name not in chosen})


def _check_loaded(name: str, layer: QuantizedLinear) -> None:
    """Raises:
    QuantError: a part of the weight was not in the checkpoint, or is of another scheme.
    """
    expected = layer.scheme
    dispatched = hasattr(layer, "_hf_hook")  # accelerate has moved its tensors, whose marks are gone
    for part, tensor in layer.stored.items():
        if not dispatched and not getattr(tensor, "_is_hf_initialized", False):
            raise QuantError(f"{name}.{part} is not in the checkpoint: it is half-written, save or quantize it again")
    if isinstance(expected, Blockwise) and not layer.get_buffer("weight_format").is_meta:
        tag = tuple(layer.get_buffer("weight_format").tolist())
        if tag != expected.format_tag:
            raise QuantError(
                f"{name}: its tensors are of format {tag}, {expected} has {expected.format_tag}: the checkpoint's "
                "quantization_config is not that of its tensors"
            )
