"""Phi-3-mini's configuration and tensors are the published ones, and cutting them down keeps the form."""

import math

import pytest
import torch

from quant.integrations.transformers import build_on_meta
from tests.full_size.phi3 import phi3_config, phi3_shapes

PUBLISHED_PARAMETERS = 3_821_079_552


def test_the_full_size_has_the_published_number_of_parameters() -> None:
    assert sum(map(math.prod, phi3_shapes(phi3_config()).values())) == PUBLISHED_PARAMETERS


@pytest.mark.parametrize(("layers", "shrink"), [(None, 1), (3, 16), (1, 32)], ids=["full", "small", "smallest"])
def test_names_and_shapes_are_those_of_the_model(layers: int | None, shrink: int) -> None:
    config = phi3_config(layers, shrink)
    state = build_on_meta(config, torch.bfloat16).state_dict()
    assert phi3_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_cutting_down_keeps_the_head_dimension_and_special_tokens_in_the_vocabulary() -> None:
    full, small = phi3_config(), phi3_config(layers=2, shrink=8)
    assert (full.eos_token_id, full.sliding_window) == (32000, 2047)
    assert (small.num_hidden_layers, small.hidden_size, small.vocab_size) == (2, 384, 4008)
    assert small.hidden_size // small.num_attention_heads == full.hidden_size // full.num_attention_heads == 96
    assert small.eos_token_id == small.pad_token_id == 3944


@pytest.mark.parametrize(("options", "named"), [({"shrink": 3}, "--shrink 3"), ({"layers": 0}, "--layers 0")])
def test_other_sizes_are_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        phi3_config(**options)
