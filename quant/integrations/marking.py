"""Keeps transformers' record of a model true to what the model is made of.

transformers saves a model by its attributes: `hf_quantizer`, `is_quantized`, `quantization_method`, and in the
configuration `quantization_config` and `_is_quantized`, which some architectures ask before they read a weight. `mark`
sets them after `quant.quantize` and takes them away after `quant.dequantize`, for every transformers model in the
module that was converted. The models *around* that module cannot be seen from it: convert the model that you save.
"""

from torch import nn
from transformers.modeling_utils import PreTrainedModel

from quant.integrations.quantization_config import OurConfig
from quant.integrations.quantizer import QuantizerForTransformers, config_of_layers, quantized_layers


def mark(model: nn.Module) -> None:
    """Make the transformers models in `model`, or the one it is, known to transformers as what they are now: quantized
    by this library, or float again.
    """
    inside = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    for pretrained in reversed(inside):  # a model shares its configuration with those in it and has the last word
        layers = dict(quantized_layers(pretrained))
        config = pretrained.config
        if layers:
            quantizer = QuantizerForTransformers(config_of_layers(layers), pre_quantized=True)
            pretrained.hf_quantizer = quantizer
            pretrained.is_quantized, pretrained.quantization_method = True, quantizer.quantization_config.quant_method
            config.quantization_config, config._is_quantized = quantizer.quantization_config, True
        elif _is_ours(pretrained):
            _unmark(pretrained)


def _is_ours(pretrained: PreTrainedModel) -> bool:
    """Whether transformers takes it for quantized by this library; other libraries' marks are theirs."""
    quantizer, config = getattr(pretrained, "hf_quantizer", None), pretrained.config
    recorded = getattr(config, "quantization_config", None)
    return isinstance(quantizer, QuantizerForTransformers) or (quantizer is None and isinstance(recorded, OurConfig))


def _unmark(pretrained: PreTrainedModel) -> None:
    """Make a transformers model a float one for transformers."""
    vars(pretrained.config).pop("_is_quantized", None)
    vars(pretrained.config).pop("quantization_config", None)
    for name in ("hf_quantizer", "quantization_method"):
        vars(pretrained).pop(name, None)
    pretrained.is_quantized = False
