"""Which tensors are taken for ones on a GPU, and what importing the package leaves alone."""

import importlib.util
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from quant.kernels import cuda


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was found out about a device before is not used, nor what is found out here afterwards."""
    kept = cuda._is_capable, cuda._uses_triton
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


def stand_in(dtype: torch.dtype, elements: int = 64) -> Any:
    """For a tensor: none can say that it is on a GPU where there is none."""
    place = torch.device("cuda", 0)
    return types.SimpleNamespace(is_cuda=True, dtype=dtype, device=place, dim=lambda: 2, numel=lambda: elements)


def on_gpu(dtype: torch.dtype = torch.float16, elements: int = 64) -> bool:
    """Whether a stand-in for a tensor is taken."""
    return cuda._reads(stand_in(dtype, elements))


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(cuda, "_PLAIN", (types.SimpleNamespace,))
    monkeypatch.setattr(cuda, "_driver_error", lambda: "")


def test_real_memory_of_a_gpu_in_the_integer_dtypes(ampere: None) -> None:
    assert [on_gpu(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)] == [True] * 3
    assert not on_gpu(torch.float64)
    assert not on_gpu(elements=0)


def test_subclasses_of_tensor_are_torch_s(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_PLAIN", (torch.Tensor, torch.nn.Parameter))
    assert not on_gpu()


WARNING = "^quantized layers convert their weight in every call on this GPU, which is slow, .*: "
BUT = "^quantized layers, but for what bitsandbytes multiplies, convert their weight in every call on this GPU, .*: "


def refused_with(reason: str, warning: str = WARNING) -> None:
    """That is told once."""
    with pytest.warns(UserWarning, match=warning + reason) as told:
        assert [on_gpu(), on_gpu()] == [False, False]
    assert len(told) == 1


@pytest.mark.parametrize("capability", [(8, 0), (10, 0)])
def test_from_compute_capability_8(ampere: None, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert on_gpu()


def test_older_gpus_are_torch_s(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA T4")
    refused_with(r"kernels need compute capability 8\.0, NVIDIA T4 has 7\.5$")


def test_whether_kernels_run_is_asked_without_a_warning(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    assert cuda.is_usable(device)
    monkeypatch.setattr(cuda, "_driver_error", lambda: "no compiler")
    assert not cuda.is_usable(device)
    monkeypatch.setattr(cuda, "_driver_error", lambda: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA T4")
    assert not cuda.is_usable(device)


def test_amd_gpus_are_torch_s(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    refused_with("there are no kernels for AMD's$")


def test_installs_without_triton_are_torch_s_and_bitsandbytes(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused_with(r"Triton 3\.7 or later, which comes with torch 2\.12 and later for CUDA, is not installed$", BUT)
    monkeypatch.setattr(cuda.bitsandbytes_op, "takes", lambda x, *operands: operands == ("packed", "absmax"))
    assert cuda.takes_bitsandbytes(stand_in(torch.float16), 9, "packed", "absmax")
    assert not cuda.takes_bitsandbytes(stand_in(torch.float16), 9, "packed")
    assert not cuda.takes_bitsandbytes(stand_in(torch.float32), 9, "packed", "absmax")


@pytest.mark.parametrize("version", ["3.7.0", "3.10.0+git1a2b3c"])
def test_triton_of_a_version_that_is_tested_is_used(
    ampere: None, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(__version__=version))
    assert on_gpu()


def test_old_versions_of_triton_are_not_used(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(__version__="3.6.1"))
    refused_with("Triton 3.7 or later", BUT)


def test_a_triton_that_cannot_compile_its_driver_is_not_used(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without a C compiler."""

    class Driver:
        @property
        def active(self) -> None:
            raise RuntimeError("Failed to find C compiler.\nSet CC")

    monkeypatch.undo()
    runtime = types.SimpleNamespace(driver=Driver())
    monkeypatch.setattr(importlib, "import_module", lambda name: {"triton.runtime": runtime}[name])
    reason = cuda._driver_error()
    assert reason == (
        "Triton, which needs a C compiler and Python's headers, says RuntimeError: Failed to find C compiler. Set CC"
    )
    monkeypatch.setattr(cuda, "has_triton", lambda: True)
    with pytest.warns(UserWarning, match=BUT + reason):
        assert not cuda._uses_triton()
    runtime.driver = types.SimpleNamespace(active=object())
    cuda._uses_triton.cache_clear()
    assert cuda._uses_triton()


def test_a_tensor_on_the_cpu_asks_nothing_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: object) -> None:
        raise AssertionError("asked for a GPU")

    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    x = torch.empty(2, 64)
    assert not cuda.takes_int8(x, 2)
    assert not cuda.takes_few_blockwise(x, 2)
    assert not cuda.takes_many_blockwise(x, 2)
    assert not cuda.takes_bitsandbytes(x, 2, *[None] * 4, "nf4", 64, 3, None)
