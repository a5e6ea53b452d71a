"""Which tensors are taken for ones on a GPU, what importing the package leaves alone, and where constants are made."""

import importlib.util
import types
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from quant.kernels import cuda
from quant.kernels.cuda.tables import table


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """What was found out about a device before is not used."""
    cuda._is_supported.cache_clear()


def on_gpu(dtype: torch.dtype = torch.float16, elements: int = 64) -> bool:
    """Whether a stand-in for a tensor is taken; no tensor can say that it is on a GPU where there is none."""
    stand_in = types.SimpleNamespace(
        is_cuda=True, dtype=dtype, device=torch.device("cuda", 0), dim=lambda: 2, numel=lambda: elements
    )
    return cuda._reads(stand_in)  # type: ignore[arg-type]


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(cuda, "_PLAIN", (types.SimpleNamespace,))


def test_real_memory_of_a_gpu_in_the_integer_dtypes(ampere: None) -> None:
    assert [on_gpu(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)] == [True] * 3
    assert not on_gpu(torch.float64)
    assert not on_gpu(elements=0)


def test_subclasses_of_tensor_are_torch_s(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_PLAIN", (torch.Tensor, torch.nn.Parameter))
    assert not on_gpu()


@pytest.mark.parametrize(("capability", "taken"), [((7, 5), False), ((8, 0), True), ((10, 0), True)])
def test_from_compute_capability_8(
    ampere: None, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], taken: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert on_gpu() is taken


def test_amd_gpus_and_installs_without_triton_are_torch_s(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert not on_gpu()
    monkeypatch.setattr(torch.version, "hip", None)
    cuda._is_supported.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not on_gpu()


@pytest.mark.parametrize(("version", "taken"), [("3.6.1", False), ("3.7.0", True), ("3.10.0+git1a2b3c", True)])
def test_old_versions_of_triton_are_not_used(
    ampere: None, monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(__version__=version))
    assert on_gpu() is taken


def test_a_tensor_on_the_cpu_asks_nothing_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: object) -> None:
        raise AssertionError("asked for a GPU")

    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    x = torch.empty(2, 64)
    assert not cuda.takes_int8(x, 2)
    assert not cuda.takes_few_blockwise(x, 2)
    assert not cuda.takes_many_blockwise(x, 2)
    assert not cuda.takes_bitsandbytes(x, 2, *[None] * 4, "nf4", 64, 3, None)


class Seen(TorchFunctionMode):
    """What the thread that is in this mode calls of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: dict[str, Any] | None = None
    ) -> Any:
        self.functions.append(function)
        return function(*arguments, **(options or {}))


def test_constants_are_made_in_a_thread_of_their_own() -> None:
    """Where no CUDA graph is recorded and no mode of the caller holds: plain tensors on the device asked for."""
    values = (0.25, -3.0)
    with torch.inference_mode(), Seen() as seen:
        torch.tensor(values)
        first = table(values, torch.float32, torch.device("cpu"))
        assert seen.functions.count(torch.tensor) == 1
    assert first.tolist() == list(values)
    assert not first.is_inference()
    assert table(values, torch.float32, torch.device("cpu")) is first
