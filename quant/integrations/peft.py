"""LoRA adapters on quantized layers, through PEFT's registry of custom modules.

    from quant.integrations.peft import for_quantized_layers
    model = get_peft_model(model, for_quantized_layers(LoraConfig(target_modules=["qkv_proj", "o_proj"])))

PEFT knows which layers it can adapt by their types and refuses the others. It has a place in `LoraConfig` for more,
which is not saved with an adapter: `for_quantized_layers` fills it, before training and before an adapter is loaded
again. The adapter is PEFT's own `lora.Linear`: y = layer(x) + scaling * B(A(x)), gradients pass through the frozen
codes. It has the dtype that it would have on the float layer: the layer's `dtype`, or float32 where PEFT casts it up
(`autocast_adapter_dtype`, its default).

Refused: everything that reads or writes the base weight, because the codes are not that weight. That is merging (it
would round the sum to new codes; `quant.dequantize` the model first), DoRA and the initialisations that factor the
weight.
"""

import warnings
from typing import Any

from peft import LoraConfig
from peft.tuners import lora
from torch import nn

from quant.errors import QuantError
from quant.modules import QuantizedLinear

INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")
"""The values of `init_lora_weights` that do not read the base weight."""


class QuantizedLoraLinear(lora.Linear):  # type: ignore[misc]
    """`peft.tuners.lora.Linear` whose base layer is quantized."""

    def __init__(self, base_layer: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            # PEFT does not know the type, but finds in_features and out_features.
            warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
            super().__init__(base_layer, adapter_name, *args, **kwargs)

    def update_layer(self, adapter_name: str, r: int, lora_alpha: int, config: LoraConfig, **kwargs: Any) -> None:
        """Called by PEFT for each adapter.

        Raises:
            QuantError: an adapter that needs the base weight.
        """
        if config.use_dora or config.init_lora_weights not in INITIALISATIONS:
            accepted = ", ".join(map(repr, INITIALISATIONS))
            raise QuantError(
                f"{self.get_base_layer()}: use_dora={config.use_dora}, init_lora_weights={config.init_lora_weights!r} "
                f"need the float weight: use plain LoRA with init_lora_weights one of {accepted}"
            )
        super().update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config, **kwargs)
        base = self.get_base_layer()
        if isinstance(base, QuantizedLinear):
            # As PEFT does with the dtype of a float weight; of codes it takes no dtype, and leaves float32.
            self.lora_A[adapter_name].to(base.dtype)
            self.lora_B[adapter_name].to(base.dtype)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """As in PEFT, once the model is float again.

        Raises:
            QuantError: the base layer is not an nn.Linear.
        """
        base = self.get_base_layer()
        if type(base) is not nn.Linear:
            quantized = isinstance(base, QuantizedLinear)
            remedy = "quant.dequantize(model) first, or keep the adapter apart" if quantized else "keep it apart"
            raise QuantError(f"{base}: an adapter cannot be merged into this layer: {remedy}")
        super().merge(safe_merge, adapter_names)


def for_quantized_layers(config: LoraConfig) -> LoraConfig:
    """`config`, from now on good for models with quantized layers too.

    Args:
        config: changed in place; its `target_modules` must name the layers ("all-linear" finds float ones only).

    Raises:
        QuantError: `target_modules="all-linear"`.
    """
    if config.target_modules == "all-linear":
        raise QuantError("target_modules='all-linear' finds float layers only: name the layers, as ['qkv_proj']")
    config._register_custom_module({QuantizedLinear: QuantizedLoraLinear})
    return config
