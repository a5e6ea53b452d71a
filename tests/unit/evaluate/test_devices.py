"""On which devices a model is, by name; the parameters are stand-ins, so that no GPU is needed."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from quant.evaluate.devices import accelerators, device_names

NAMES = {0: "NVIDIA A", 1: "NVIDIA B", 2: "NVIDIA B"}


def spread(*devices: str) -> Any:
    """A model with a parameter on each of `devices`."""

    def parameters() -> Iterator[SimpleNamespace]:
        return iter([SimpleNamespace(device=torch.device(device)) for device in devices])

    return SimpleNamespace(parameters=parameters)


@pytest.fixture(autouse=True)
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: NAMES[device.index])


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


def test_accelerators_are_listed_once_in_the_model_s_order() -> None:
    assert accelerators(spread("cuda:1", "cpu", "cuda:0", "cuda:1")) == (
        torch.device("cuda", 1),
        torch.device("cuda", 0),
    )
    assert accelerators(nn.Linear(2, 2)) == ()
