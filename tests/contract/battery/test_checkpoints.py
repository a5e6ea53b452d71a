"""A whole model through transformers: quantized on load and in memory, saved, loaded and saved again; and copied."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant.schemes import Scheme
from tests.checkpoints import assert_round_trip, load, logits, save, state
from tests.models import tiny_phi3, tokens

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_by_every_road_the_same_codes_and_in_every_file_the_same_bytes(
    dtype: torch.dtype, scheme: Scheme, tmp_path: Path
) -> None:
    """Sharded so small that the codes and scales of a layer are in different files."""
    float_folder = save(tiny_phi3().to(dtype), tmp_path / "float")
    assert_round_trip(float_folder, scheme, dtype, tmp_path, max_shard_size="40KB")
    assert len(list((tmp_path / "on-load").glob("*.safetensors"))) > 5


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deep", "pickle"])
def test_copies_are_quantized_models_too(copied: Callable[[Any], Any], scheme: Scheme, tmp_path: Path) -> None:
    model = load(save(quant.quantize(tiny_phi3(), scheme), tmp_path / "quantized"))
    other = copied(model)
    assert state(other) == state(model)
    other.model.norm.weight.data.zero_()
    assert logits(model, tokens()) != logits(other, tokens())
    assert state(load(save(other, tmp_path / "copy"))) == state(other)
