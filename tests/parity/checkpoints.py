"""Models of bitsandbytes, loaded through transformers, and their weights as `F.dequantize_4bit` reads them: what it
computes with where it does not repack weights for AVX512-BF16.
"""

from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from quant import BlockwiseLinear
from tests.strategies import bits


def load(folder: Path, **options: Any) -> Any:
    """The model in `folder`, with nothing missing and nothing left over."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return model


def load_theirs(folder: Path, dtype: torch.dtype, kind: str = "nf4", double: bool = False, **options: Any) -> Any:
    """A float model quantized by bitsandbytes while it is loaded."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=dtype,
        **options,
    )
    return load(folder, dtype=dtype, quantization_config=config)


def their_weight(layer: Any) -> Tensor:
    """What bitsandbytes dequantizes, as one row: its CPU kernel misreads blocks that run over the ends of rows."""
    state = layer.weight.quant_state
    shape, state.shape = state.shape, torch.Size((state.shape.numel(),))
    weight: Tensor = bnb.dequantize_4bit(layer.weight.data, state).view(shape)
    state.shape = shape
    return weight


def assert_same_weights(ours: Any, theirs: Any, layers: int) -> None:
    """Of all quantized layers, bit for bit, down to the dtype; everything else of the models is the same too."""
    names = [name for name, module in ours.named_modules() if isinstance(module, BlockwiseLinear)]
    assert len(names) == layers
    for name in names:
        weight = ours.get_submodule(name).quantized_weight.dequantize()
        expected = their_weight(theirs.get_submodule(name))
        assert weight.dtype == expected.dtype
        assert bits(weight) == bits(expected), name
    stored = {name: tensor for name, tensor in theirs.state_dict().items() if ".weight." not in name}
    others = [name for name in stored if name.rpartition(".")[0] not in names]
    assert len(others) > 3
    for name in others:
        assert bits(ours.state_dict()[name]) == bits(stored[name]), name
