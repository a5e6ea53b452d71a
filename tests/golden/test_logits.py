"""The golden checkpoints as whole models: the logits of the machine that wrote them, within what CPUs differ by, which
is less than what any fault in putting the parts together does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from quant import native
from tests.checkpoints import load
from tests.golden.logits import (
    FEW_DRAWS,
    IDS,
    MOVED,
    MOVED_TOLERANCE,
    STEPS,
    TOLERANCE,
    logits,
    moved_by_a_step,
    written,
)
from tests.golden.make import FOLDERS
from tests.strategies import bits

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")


def other_epsilon(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-6


def no_positions(model: Any) -> None:
    model.model.rotary_emb.inv_freq.zero_()


def exchanged_halves(model: Any) -> None:
    """gate and up: the first and the second half of the outputs of one layer."""
    layer = model.model.layers[0].mlp.gate_up_proj
    layer.register_forward_hook(lambda _layer, _inputs, y: torch.cat(y.chunk(2, dim=-1)[::-1], dim=-1))


def another_token(model: Any) -> None:
    model.register_forward_pre_hook(lambda _model, inputs: (inputs[0].clone().index_fill_(1, torch.tensor([0]), 2),))


PLANTED: dict[str, Callable[[Any], None]] = {
    "epsilon": other_epsilon,
    "positions": no_positions,
    "halves": exchanged_halves,
    "token": another_token,
}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@every_folder
def test_logits_are_those_of_the_machine_that_wrote_them(folder: Path) -> None:
    """With every variant of the kernels, which give the same bits among them, and without any."""
    model, expected = load(folder), written(folder)
    assert expected.shape == (len(IDS[0]), model.config.vocab_size)
    found = {}
    for name in (*native.supported(), "torch"):
        with native.override(name):
            found[name] = logits(model)
        assert difference(found[name], expected) <= TOLERANCE, name
    del found["torch"]
    assert len({tuple(bits(output)) for output in found.values()}) <= 1


@every_folder
def test_a_step_of_every_activation_is_what_it_was_measured_to_be(folder: Path) -> None:
    """So that the tolerance is neither too small nor larger than it need be."""
    model = load(folder)
    moved = max(moved_by_a_step(model, seed) for seed in range(FEW_DRAWS))
    assert moved == pytest.approx(MOVED[folder.name], rel=MOVED_TOLERANCE)
    assert max(MOVED.values()) <= STEPS == TOLERANCE / 2


@pytest.mark.parametrize("fault", PLANTED)
@every_folder
def test_a_fault_in_putting_parts_together_is_seen(folder: Path, fault: str) -> None:
    """Measured: no positions move the logits by 1.9e-4, the others by 1e-3 and more."""
    model = load(folder)
    PLANTED[fault](model)
    assert difference(logits(model), written(folder)) > 2 * TOLERANCE
