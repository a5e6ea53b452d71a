"""Phi-3-mini's configuration, also cut down, and the names and shapes of its tensors.

The tensors are listed here instead of taken from the model's class, whose import costs 130 MB that the writer would
hold while it writes; that transformers finds no tensor missing and none unexpected is a test.
"""

from typing import Any

import torch

from quant.integrations.transformers import phi3_mini_config


def phi3_config(layers: int | None = None, shrink: int = 1) -> Any:
    """Phi-3-mini-4k-instruct's configuration in bfloat16.

    Args:
        layers: instead of its 32.
        shrink: divides widths, heads and vocabulary: a power of two up to 32. Heads keep their 96 dimensions.

    Raises:
        ValueError: another `shrink`, or fewer than one layer.
    """
    if shrink not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"--shrink {shrink}: use 1, 2, 4, 8, 16 or 32, which divide the number of heads")
    config = phi3_mini_config()
    if layers is not None:
        if layers < 1:
            raise ValueError(f"--layers {layers}: use at least 1")
        config.num_hidden_layers = layers
    config.hidden_size //= shrink
    config.intermediate_size //= shrink
    config.num_attention_heads //= shrink
    config.num_key_value_heads //= shrink
    config.vocab_size //= shrink
    config.eos_token_id = config.pad_token_id = config.vocab_size - 64  # 32000 at full size, as published
    config.dtype = torch.bfloat16
    config.architectures = ["Phi3ForCausalLM"]
    return config


def phi3_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a checkpoint with this configuration, in the model's order."""
    width, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.o_proj": (width, width),
        "self_attn.qkv_proj": (3 * width, width),
        "mlp.gate_up_proj": (2 * inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    modules: dict[str, tuple[int, ...]] = {"model.embed_tokens": (vocabulary, width)}
    for index in range(config.num_hidden_layers):
        modules |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    modules |= {"model.norm": (width,), "lm_head": (vocabulary, width)}
    return {f"{name}.weight": shape for name, shape in modules.items()}
