"""Faults of growth (F4): work that grows faster than the model or the weight. Calls of Python functions, comparisons of
names and operations of torch are counted.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant import native
from quant.checkpoint_quantization import quantize_checkpoint
from quant.evaluate.footprint import footprint
from quant.integrations.loading import named_layers
from quant.schemes import NF4, W8A16, Scheme
from tests.checkpoints import config_for, load, save
from tests.faults.counting import Allocations, calls_of
from tests.models import Layers, layer_of, seeded, tiny_phi3
from tests.strategies import normal, scheme_id


def test_f4_calls_grow_no_faster_than_the_model() -> None:
    """Four times the layers make at most four times the calls, in every walk over a model."""

    def all_walks(count: int) -> Callable[[], object]:
        model = seeded(lambda: Layers(count, 4))

        def work() -> None:
            quant.quantize(model, W8A16(), exclude="layers.1*")
            footprint(model)
            model.load_state_dict(model.state_dict())
            quant.dequantize(model)

        return work

    calls_of(all_walks(3))
    few, many = calls_of(all_walks(40)), calls_of(all_walks(160))
    assert 2 * few < many <= 4 * few


def on_load(folder: Path, out: Path) -> None:
    load(folder, quantization_config=config_for(NF4()))


def saved_and_loaded(folder: Path, out: Path) -> None:
    load(save(quant.quantize(load(folder), NF4()), out))


def on_disk(folder: Path, out: Path) -> None:
    quantize_checkpoint(str(folder), out, "nf4")


@pytest.mark.parametrize("work", [on_load, saved_and_loaded, on_disk])
def test_f4_each_further_block_of_a_checkpoint_costs_as_many_calls_as_the_last(
    work: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of Phi-3, with four linear layers each. Measured: six blocks cost exactly as many calls as the six before; a walk
    over the model for each layer makes it 14 % more and beyond.

    From 36 blocks on, the patterns that transformers makes of names outgrow the cache of `re`, and are compiled again
    each time.
    """
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # in threads, whose calls are not counted
    counts = []
    for blocks in (4, 16, 22, 28):  # the first to import and to fill other caches
        model = tiny_phi3(hidden_size=32, intermediate_size=32, num_hidden_layers=blocks)
        folder = save(model, tmp_path / str(blocks))
        re.purge()
        counts.append(calls_of(functools.partial(work, folder, folder / "out")))
    _, first, second, third = counts
    assert 0 < third - second <= 1.02 * (second - first)


class Counted(str):
    """A string that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Named(Layers):
    """As transformers describes a model."""

    base_model_prefix = "model"
    base_model = None


def test_f4_names_of_a_checkpoint_are_compared_no_faster_than_their_number_grows() -> None:
    """Which is what no count of calls sees: `in` of a list compares in C."""
    compared = []
    for count in (40, 160):
        model = seeded(functools.partial(Named, count, 4))
        names: list[str] = [Counted(f"layers.{index}") for index in range(count)]
        Counted.compared = 0
        assignment = named_layers(model, dict.fromkeys(names, W8A16()))
        compared.append(Counted.compared)
        assert list(assignment.schemes) == names
    few, many = compared
    assert 0 < many <= 4 * few


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("shapes", [((8, 64), (1024, 64)), ((64, 8), (64, 1024))], ids=["rows", "columns"])
@pytest.mark.parametrize("scheme", [W8A16(), NF4(), NF4(double_quant=True)], ids=scheme_id)
def test_f4_neither_operations_nor_calls_grow_with_the_weight(
    scheme: Scheme, shapes: tuple[tuple[int, int], ...], kernels: str
) -> None:
    """From 8 blocks to 1024. Below the 4 million elements at which torch's way begins a second chunk."""

    def work(weight: torch.Tensor) -> Any:
        quant.quantize_tensor(weight, scheme).dequantize()
        return layer_of(weight, scheme)(torch.ones(2, weight.shape[1]))

    counts = []
    with native.override(native.variant() if kernels == "native" else "torch"):
        work(normal(shapes[0]))  # whose tables are made once
        for weight in map(normal, shapes):
            with Allocations() as allocations:
                work(weight)
            counts.append((allocations.operations, calls_of(functools.partial(work, weight))))
    (operations, calls), (more_operations, more_calls) = counts
    assert 0 < more_operations <= operations
    assert 0 < more_calls <= calls
