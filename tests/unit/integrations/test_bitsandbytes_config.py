"""Which layers a configuration of bitsandbytes has transformers skip: exactly those that are float, or none at all."""

import pytest
import torch
from torch import nn

from quant import NF4, QuantError
from quant.integrations.bitsandbytes import quantization_config
from quant.integrations.bitsandbytes_config import bitsandbytes_config


class Named(nn.Module):
    """Linear layers with the given names, dots allowed."""

    def __init__(self, *names: str, keep: list[str] | None = None) -> None:
        super().__init__()
        self._keep_in_fp32_modules = keep
        for name in names:
            parent: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(last, nn.Linear(2, 2, device="meta"))


@pytest.mark.parametrize(
    ("left", "quantized"),
    [("layers.1.fc", "layers.11.fc"), ("layers.1.fc", "layers.1.fc2"), ("mlp.gate", "mlp.gate_proj"), ("b.fc", "a.fc")],
)
def test_names_that_only_look_alike_are_told_apart(left: str, quantized: str) -> None:
    config = bitsandbytes_config(Named(left, quantized), [quantized], NF4(), torch.float32)
    assert config["llm_int8_skip_modules"] == [left]


@pytest.mark.parametrize(
    ("model", "lost", "pattern"),
    [
        (Named("fc", "mlp.fc"), "mlp.fc", "fc"),
        (Named("head", "lm_head"), "lm_head", "head"),
        (Named("mlp.wo", "mlp.wi", keep=["mlp.wo"]), "mlp.wo", "mlp.wo"),
    ],
    ids=["last part of a name", "end of a name", "kept in float32"],
)
def test_a_quantized_layer_that_would_be_skipped_is_refused(model: nn.Module, lost: str, pattern: str) -> None:
    with pytest.raises(QuantError, match=f"not read {lost} as quantized, because {pattern} is not .*without {lost}"):
        bitsandbytes_config(model, [lost], NF4(), torch.float32)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(QuantError, match="unknown bitsandbytes scheme 'bnb-nf3', use one of bnb-int8, bnb-fp4, bnb-nf"):
        quantization_config("bnb-nf3", torch.float32)
