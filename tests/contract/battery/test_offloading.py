"""Accelerate's hooks, which fetch weights for each forward and put them away after it: the same logits, twice."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

import quant
from quant.schemes import Scheme
from tests.checkpoints import SPLIT, load, logits, save
from tests.models import tiny_phi3, tokens


def assert_offloaded(model: Any, expected: list[int], codes_too: bool) -> None:
    """Float weights are away, codes where asked for (they are buffers, which stay by default); logits as before."""
    assert model.lm_head.weight.is_meta
    assert model.model.layers[1].mlp.down_proj.weight.is_meta == codes_too
    assert [logits(model, tokens()) for _ in range(2)] == [expected, expected]
    assert model.model.layers[1].mlp.down_proj.weight.is_meta == codes_too


@pytest.mark.parametrize("offload_buffers", [False, True], ids=["floats", "codes too"])
@pytest.mark.parametrize("place", ["cpu", "disk", "dispatch"])
def test_a_model_in_memory(place: str, offload_buffers: bool, scheme: Scheme, tmp_path: Path) -> None:
    model: Any = quant.quantize(tiny_phi3(), scheme)
    expected = logits(model, tokens())
    device = torch.device("cpu")
    if place == "cpu":
        cpu_offload(model, execution_device=device, offload_buffers=offload_buffers)
    elif place == "disk":
        disk_offload(model, str(tmp_path), execution_device=device, offload_buffers=offload_buffers)
    else:
        dispatch_model(model, SPLIT, main_device="cpu", offload_dir=str(tmp_path), offload_buffers=offload_buffers)
    assert_offloaded(model, expected, offload_buffers)


@pytest.mark.filterwarnings("ignore:Current model requires:UserWarning")
@pytest.mark.parametrize("offload_buffers", [False, True], ids=["floats", "codes too"])
def test_a_checkpoint_with_a_device_map(offload_buffers: bool, scheme: Scheme, tmp_path: Path) -> None:
    folder = save(quant.quantize(tiny_phi3(), scheme), tmp_path / "quantized")
    expected = logits(load(folder), tokens())
    options = {"offload_folder": tmp_path / "offloaded", "offload_buffers": offload_buffers}
    assert_offloaded(load(folder, device_map=SPLIT, **options), expected, offload_buffers)


def test_a_checkpoint_placed_automatically(scheme: Scheme, tmp_path: Path) -> None:
    folder = save(quant.quantize(tiny_phi3(), scheme), tmp_path)
    assert logits(load(folder, device_map="auto"), tokens()) == logits(load(folder), tokens())
