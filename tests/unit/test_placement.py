"""--device auto: accelerate places the model, with the same numbers as on one device, and what does not fit is fetched
for every call and told. On a machine without a GPU: the CPU is the device, and the disk is where the rest is.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from quant.compare import compare
from quant.errors import QuantError
from quant.evaluate.devices import device_names, input_device, offloaded_bytes
from quant.gated_model import require_same_device
from quant.records import Request, Result
from quant.variants import VARIANTS, load_variant
from tests.unit.tiny_comparison import short_request

pytestmark = [
    pytest.mark.usefixtures("quick_comparisons"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="automatic placement takes the GPU"),
]

ALL_BYTES = 4 * (2 * 512 * 64 + 5 * 64 + 2 * 64 * (128 + 64 + 256 + 128))
"""Of the tiny model's parameters, in float32."""
SPEEDS = ("seconds", "tokens_per_second", "times_faster", "memory")


def figures(result: Result) -> dict[str, Any]:
    """The fields of a record that are the same on every run."""
    return {name: value for name, value in dataclasses.asdict(result).items() if not any(s in name for s in SPEEDS)}


@pytest.fixture
def request_(model_folder: Path, text_file: Path) -> Request:
    return short_request(model_folder, text_file)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_computes_the_same_wherever_it_is_placed(name: str, model_folder: Path) -> None:
    ids = torch.arange(3, 35)[None]
    outputs = []
    for device in ("cpu", "auto"):
        model = load_variant(name, model_folder, torch.float32, device).model
        with torch.inference_mode():
            outputs.append(model(input_ids=ids.to(input_device(model)), use_cache=False).logits)
        assert (device_names(model), offloaded_bytes(model)) == ("cpu", 0)
    assert outputs[0].isfinite().all()
    assert torch.equal(*outputs)


def test_a_comparison_has_the_same_figures(request_: Request) -> None:
    here = compare(request_)
    placed = compare(dataclasses.replace(request_, device="auto"))
    assert [figures(result) for result in placed.results] == [figures(result) for result in here.results]
    assert placed.environment == here.environment
    assert [result.offloaded_bytes for result in placed.results] == [0, 0, 0]


@pytest.fixture(params=[100_000, 300_000], ids=["everything", "the last layer and the head"])
def little_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes on the device: the embedding takes 131,072 of the model's 558,336, a layer 147,456, the head as much as the
    embedding.
    """
    size: int = request.param
    monkeypatch.setattr("transformers.integrations.accelerate.get_max_memory", lambda _=None: {"cpu": size})
    return size


def test_what_does_not_fit_changes_no_figure_and_is_told(
    request_: Request, little_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the embedding itself is on disk, nothing of the model says on which device it computes."""
    request = dataclasses.replace(request_, schemes=("baseline",))
    monkeypatch.setattr("quant.compare._warm_up", lambda _: None)  # which would be quantized from disk
    (here,) = compare(request).results
    comparison = compare(dataclasses.replace(request, device="auto"))
    (placed,) = comparison.results
    assert comparison.environment.device == "cpu"
    assert placed.offloaded_bytes is not None
    # Buffers may be away as well.
    assert ALL_BYTES - little_memory <= placed.offloaded_bytes <= ALL_BYTES + 1000
    assert {**figures(placed), "offloaded_bytes": 0} == figures(here)


def test_what_must_be_quantized_from_disk_is_refused_with_the_remedy(model_folder: Path, little_memory: int) -> None:
    with pytest.raises(QuantError, match=r"w8a16: .* quantize the checkpoint first"):
        load_variant("w8a16", model_folder, torch.float32, "auto")


def test_codes_that_do_not_fit_are_left_out_too(our_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are buffers, which accelerate leaves on the device unless told otherwise."""
    ids = torch.arange(3, 35)[None]
    whole = load_variant("baseline", our_folder, torch.float32, "cpu").model
    monkeypatch.setattr("transformers.integrations.accelerate.get_max_memory", lambda _=None: {"cpu": 100_000})
    placed = load_variant("baseline", our_folder, torch.float32, "auto").model
    assert placed.model.layers[1].mlp.down_proj.weight.is_meta
    with torch.inference_mode():
        logits = [model(input_ids=ids, use_cache=False).logits for model in (whole, placed)]
    assert torch.equal(*logits)


def test_a_gate_s_model_is_where_its_baseline_will_be(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_variant("baseline", model_folder, torch.float32, "auto").model
    require_same_device("nf4", model, "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(QuantError, match="nf4: the model is on cpu, and its baseline is measured on auto"):
        require_same_device("nf4", model, "auto")
