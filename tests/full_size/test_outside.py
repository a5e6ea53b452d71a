"""A step's time is divided between linear layers, head and the rest: on a fake clock, and with every kind of layer."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.full_size import generating, outside
from tests.full_size.conftest import SIZES, task
from tests.full_size.loading import load
from tests.full_size.outside import measure_outside

LAYER, HEAD, REST = 2.0, 0.5, 0.25


class Stepper(nn.Module):
    """Two linear layers, a head and something else, each taking its time on a fake clock in every step; the prefill ten
    times as much.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.factor = 0.0, 1.0
        self.config = SimpleNamespace(vocab_size=100)
        self.first, self.second, self.head = (self._taking(seconds) for seconds in (LAYER, LAYER, HEAD))
        self.other = nn.Identity()

    def _taking(self, seconds: float) -> nn.Module:
        layer = nn.Linear(1, 1)

        def forward(x: Tensor) -> Tensor:
            self.now += self.factor * seconds
            return x

        layer.forward = forward  # type: ignore[assignment, method-assign]
        return layer

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def generate(self, prompt: Tensor, streamer: Any, max_new_tokens: int, **options: Any) -> None:
        streamer.put(prompt)
        for index in range(max_new_tokens):
            self.factor = 1.0 if index else 10.0
            for module in (self.first, self.second, self.head, self.other):
                module(torch.zeros(1))
            self.now += self.factor * REST
            streamer.put(prompt)


def test_a_decode_step_is_divided_and_the_prefill_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stepper()
    for module in (generating, outside):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: model.now))
    # One step each, so that no median hides another step.
    assert measure_outside(model, dataclasses.replace(SIZES, new_tokens=2), repeats=2) == {
        "step_seconds": 2 * LAYER + HEAD + REST,
        "layer_seconds": 2 * LAYER,
        "head_seconds": HEAD,
        "outside_seconds": REST,
        "layers": 3,
    }


@pytest.mark.parametrize("variant", ["bf16", "nf4", "bnb-nf4"])
def test_every_kind_of_linear_layer_is_timed_and_no_hook_stays(variant: str, checkpoint: Path) -> None:
    model, _ = load(task("outside", variant, checkpoint))
    result = measure_outside(model, SIZES, repeats=1)
    assert result["layers"] == 9
    assert 0 < result["head_seconds"] < result["step_seconds"]
    assert 0 < result["layer_seconds"] < result["step_seconds"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
