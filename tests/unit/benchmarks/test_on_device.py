"""Copies of a layer that are timed together: beyond any cache, and as many in every format."""

from typing import Any

import pytest
import torch
from torch import nn

from quant import NF4, W8A16
from quant.modules import quantized_linear
from tests.benchmarks import on_device
from tests.benchmarks.on_device import through_copies
from tests.strategies import normal

WEIGHTS = 4 * 64


@pytest.mark.parametrize("scheme", [None, W8A16(), NF4()], ids=str)
def test_every_format_is_called_as_often(scheme: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 4 bits the copies are as large as the cache."""
    monkeypatch.setattr(on_device, "CACHE_BYTES", 10 * WEIGHTS // 2 - 1)
    linear = nn.Linear(64, 4)
    layer = linear if scheme is None else quantized_linear(linear, scheme)
    called: list[int] = []
    layer.register_forward_hook(lambda module, *_: called.append(next(iter(module.state_dict().values())).data_ptr()))
    x = normal((1, 64))
    call, count = through_copies(layer, x, WEIGHTS, timing=True)
    assert count == 10
    assert torch.equal(call(), layer(x))
    assert len(called) == 10 + 1
    assert len(set(called)) == 10


def test_where_nothing_is_timed_there_is_one() -> None:
    assert through_copies(nn.Linear(64, 4), normal((1, 64)), WEIGHTS, timing=False)[1] == 1
