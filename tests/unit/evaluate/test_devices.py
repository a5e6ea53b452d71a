"""On which devices a model is, by name; the parameters are stand-ins, so that no GPU is needed."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from quant.evaluate.devices import (
    accelerators,
    device_name,
    device_names,
    input_device,
    offloaded_bytes,
    runs_on_cpu,
)

NAMES = {0: "NVIDIA A", 1: "NVIDIA B", 2: "NVIDIA B"}


def spread(*devices: str, **attributes: object) -> Any:
    """A model with a parameter on each of `devices`."""

    def parameters() -> Iterator[SimpleNamespace]:
        return iter([SimpleNamespace(device=torch.device(device)) for device in devices])

    return SimpleNamespace(parameters=parameters, **attributes)


@pytest.fixture(autouse=True)
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: NAMES[torch.device(device).index])


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        (("cpu",), "cpu"),
        (("meta",), "meta"),
        (("cuda:1",), "NVIDIA B"),
        (("cuda:1", "cuda:0", "cuda:1"), "NVIDIA B, NVIDIA A"),
        (("cuda:1", "cuda:2"), "NVIDIA B"),
        (("cpu", "cuda:0", "meta"), "NVIDIA A"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_names_are_those_of_the_devices_that_the_model_is_on(devices: tuple[str, ...], names: str) -> None:
    assert device_names(spread(*devices)) == names


def test_what_is_fetched_for_every_call_is_on_the_cpu() -> None:
    """accelerate leaves meta tensors behind, and a hook on the model that sends inputs to where it computes."""
    offloaded = spread("meta", "meta", _hf_hook=object())
    assert device_names(offloaded) == "cpu"
    assert device_names(spread("meta", "cuda:0", _hf_hook=object())) == "NVIDIA A"


@pytest.mark.parametrize("hook", [{}, {"_hf_hook": object()}], ids=["whole", "hooked"])
@pytest.mark.parametrize("first", ["cpu", "cuda:1"])
def test_inputs_go_to_the_first_parameter(first: str, hook: dict[str, object]) -> None:
    assert input_device(spread(first, "cuda:0", "meta", **hook)) == torch.device(first)


def test_inputs_go_to_the_cpu_where_the_first_parameter_is_fetched() -> None:
    assert input_device(spread("meta", "cuda:0", _hf_hook=object())) == torch.device("cpu")
    assert input_device(spread("meta")) == torch.device("meta")


@pytest.mark.parametrize(("device", "name"), [("cpu", "cpu"), ("cuda:2", "NVIDIA B"), ("cuda:0", "NVIDIA A")])
def test_the_name_of_a_device_is_that_of_a_model_on_it(device: str, name: str) -> None:
    assert device_name(device) == device_names(spread(device)) == name


def test_offloaded_bytes_are_those_of_meta_parameters_and_buffers() -> None:
    """6 float32 parameters and 5 int8 of a buffer; the bias and the other buffer are there."""
    model = nn.Linear(3, 2)
    assert offloaded_bytes(model) == 0
    model.weight = nn.Parameter(model.weight.to("meta"))
    model.register_buffer("codes", torch.zeros(5, dtype=torch.int8, device="meta"))
    model.register_buffer("scales", torch.zeros(7))
    assert offloaded_bytes(model) == 6 * 4 + 5


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("cpu", True, True),
        ("cuda:1", True, False),
        ("cuda", False, False),
        ("auto", True, False),
        ("auto", False, True),
    ],
)
def test_what_is_placed_automatically_computes_on_a_gpu_where_there_is_one(
    device: str, gpus: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    assert runs_on_cpu(device) == expected


def test_accelerators_are_listed_once_in_the_model_s_order() -> None:
    assert accelerators(spread("cuda:1", "cpu", "cuda:0", "cuda:1")) == (
        torch.device("cuda", 1),
        torch.device("cuda", 0),
    )
    assert accelerators(nn.Linear(2, 2)) == ()
