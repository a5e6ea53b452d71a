"""Rounding noise: as large as one unit in the last place, repeatable, and gone afterwards."""

import pytest
import torch
from torch import nn

from quant.evaluate.noise import rounding_noise
from tests.models import tiny_phi3, tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_output_is_off_by_up_to_a_unit_in_the_last_place(dtype: torch.dtype) -> None:
    layer = nn.Identity()
    x = torch.ones(4096, dtype=dtype)
    with rounding_noise(layer):
        moved = (layer(x).double() - 1) / torch.finfo(dtype).eps
    # Uniform in [-1, 1), then rounded: to whole units above 1 and half units below.
    assert moved.abs().max() == 1
    assert moved.min() < 0 < moved.max()
    assert (moved == 0).float().mean() < 0.5


def test_it_is_the_same_every_time_and_leaves_nothing() -> None:
    model = tiny_phi3()

    def logits() -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = model(tokens()).logits
        return result

    before = logits()
    found = []
    for seed in (0, 0, 1):
        with rounding_noise(model, seed):
            found.append(logits())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], before)
    assert torch.equal(logits(), before)
    assert all(not module._forward_hooks for module in model.modules())


def test_it_is_gone_after_an_error() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(RuntimeError), rounding_noise(layer):
        layer(torch.ones(3))
    assert not layer._forward_hooks


def test_outputs_that_are_not_floats_are_left_alone() -> None:
    layer = nn.Identity()
    with rounding_noise(layer):
        assert torch.equal(layer(torch.arange(5)), torch.arange(5))
        assert layer("text") == "text"
