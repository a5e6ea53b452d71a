"""Faults of memory, size and threads (F1 to F5) in the parts that no other test holds. Nothing here is timed: bytes,
objects and threads are counted. What grows too fast (F4): `test_growth`.
"""

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import quant
from quant import native
from quant.evaluate.footprint import footprint
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import NF4, SCHEMES, W8A16, Scheme
from tests.checkpoints import config_for, data_bytes, load, quantized_names, save
from tests.faults.counting import Allocations
from tests.models import Layers, seeded, tiny_phi3
from tests.strategies import normal, scheme_id

FEW: tuple[Scheme, ...] = (W8A16(), NF4(), NF4(double_quant=True))
each_scheme = pytest.mark.parametrize("scheme", FEW, ids=scheme_id)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What is freed is freed by the last reference: no cycle waits for the garbage collector."""
    gc.disable()
    yield
    gc.enable()


@each_scheme
def test_f2_a_layer_that_is_dropped_is_freed_at_once(scheme: Scheme, no_collection: None) -> None:
    """After everything that could have left a reference: a product, its gradient, the weight as a float."""
    layer = quantized_linear(seeded(lambda: nn.Linear(64, 8)), scheme)
    x = normal((3, 64)).requires_grad_()
    y = layer(x)
    y.sum().backward()
    with torch.no_grad():
        layer(x)
    weight = layer.dequantize().get_parameter("weight")
    alive = [weakref.ref(value) for value in (layer, *layer.stored.values(), x, y, weight)]
    del layer, x, y, weight
    assert [reference() for reference in alive] == [None] * len(alive)


@each_scheme
def test_f2_the_float_layers_are_freed_when_a_model_is_quantized(scheme: Scheme, no_collection: None) -> None:
    model = seeded(lambda: Layers(3, 64))
    floats = [weakref.ref(value) for layer in model.layers for value in (layer, layer.get_parameter("weight"))]
    quant.quantize(model, scheme)
    assert [reference() for reference in floats] == [None] * 6
    codes = [weakref.ref(layer) for layer in model.layers]
    quant.dequantize(model)
    assert [reference() for reference in codes] == [None] * 3


@each_scheme
def test_f2_the_float_weights_are_freed_while_a_model_is_loaded(
    scheme: Scheme, no_collection: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each before the next one is encoded. transformers reads none ahead where they are quantized."""
    folder = save(tiny_phi3(), tmp_path)
    encode, floats = QuantizedLinear.encode, list[weakref.ref[Tensor]]()
    alive = []

    def watched(layer: QuantizedLinear, weight: Tensor) -> dict[str, Tensor]:
        alive.append(sum(reference() is not None for reference in floats))
        floats.append(weakref.ref(weight))
        return encode(layer, weight)

    monkeypatch.setattr(QuantizedLinear, "encode", watched)
    model = load(folder, quantization_config=config_for(scheme))
    assert alive == [0] * 8
    assert [reference() for reference in floats] == [None] * 8
    assert quantized_names(model) != []


def live_bytes() -> int:
    """Of the tensors made since the module began that Python can reach (`tests/conftest.py`), storages counted once."""
    gc.collect()
    tensors = [value for value in gc.get_objects() if type(value) in (Tensor, nn.Parameter) and value.is_cpu]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def test_f2_fifty_forwards_leave_as_many_bytes_as_one() -> None:
    models = [quant.quantize(seeded(lambda: Layers(2, 64)), scheme) for scheme in FEW]
    ids = torch.arange(11)[None]

    def step() -> None:
        for model in models:
            model(ids).sum().backward()
            model.zero_grad()
            with torch.no_grad():
                model(ids)

    step()
    before = live_bytes()
    for _ in range(50):
        step()
    assert live_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("variant", native.supported())
@each_scheme
def test_f2_quantizing_natively_allocates_what_is_stored(scheme: Scheme, variant: str, dtype: torch.dtype) -> None:
    """No float copy of the weight, in no part. Double quantization needs the absmax in float32 for a while, of which
    there are 32 times fewer than bytes of codes; the tag of a blockwise format is made by no operation.
    """
    weight = normal((256, 512)).to(dtype)
    with native.override(variant):
        quant.quantize_tensor(weight, scheme)  # whose tables are made once
        with Allocations() as allocations:
            quantized = quant.quantize_tensor(weight, scheme)
    assert max(allocations.sizes) == quantized.codes.nbytes
    if not getattr(scheme, "double_quant", False):
        assert sum(allocations.sizes) == quantized.nbytes - (4 if scheme.bits == 4 else 0)


def test_f2_the_count_sees_the_copies_that_torch_s_way_makes() -> None:
    weight = normal((256, 512)).bfloat16()
    with native.override("torch"), Allocations() as allocations:
        quant.quantize_tensor(weight, W8A16())
    assert max(allocations.sizes) == 4 * weight.numel()


@pytest.mark.parametrize("name", SCHEMES)
def test_f3_a_file_holds_the_reported_bytes_and_a_header(name: str, tmp_path: Path) -> None:
    """So the codes are there once, in one layout, and what the footprint says is what a user has to download."""
    model = quant.quantize(tiny_phi3(), SCHEMES[name])
    folder = save(model, tmp_path)
    assert len(list(folder.glob("*.safetensors"))) == 1
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear)]
    shapes = [(layer.out_features, layer.in_features) for layer in layers]
    saved = sum(4 * out * in_ - SCHEMES[name].storage_bytes(out, in_) for out, in_ in shapes)
    assert data_bytes(folder / "model.safetensors") == footprint(model).parameter_bytes
    assert footprint(model).parameter_bytes == footprint(tiny_phi3()).parameter_bytes - saved
    assert len(layers) == 8


ONE_THREAD = """
import json
import psutil
import torch
import quant

def threads():
    return psutil.Process().num_threads()

torch.set_num_threads(1)
weight = torch.ones(2048, 2048)
before = threads()
for scheme in (quant.W8A16(), quant.NF4(), quant.NF4(double_quant=True)):
    quant.quantize_tensor(weight, scheme).dequantize()
    layer = quant.quantize(torch.nn.Sequential(torch.nn.Linear(2048, 2048)), scheme)
    for rows in (1, 100):
        layer(torch.ones(rows, 2048)).sum().backward()
        with torch.no_grad():
            layer(torch.ones(rows, 2048))
print(json.dumps([before, threads(), torch.get_num_threads()]))
"""


def test_f5_with_one_thread_no_other_is_left_behind() -> None:
    """In a process of its own, where no pool waits yet. Pools stay until the process ends, so one that was started is
    seen; a thread that has ended is not.
    """
    result = subprocess.run(
        [sys.executable, "-c", ONE_THREAD],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    before, after, setting = json.loads(result.stdout)
    assert (after - before, setting) == (0, 1)
