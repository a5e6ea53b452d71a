"""The kernels for GPUs, run on the CPU by Triton's interpreter, and a CPU that the table takes for a GPU."""

from collections.abc import Iterator

import pytest

from quant import native
from quant.kernels import cuda
from tests.unit.cuda.interpreter import interpreted_kernels


@pytest.fixture(scope="module")
def interpreted() -> Iterator[None]:
    """Kernels run under the interpreter."""
    if not cuda.has_triton():
        pytest.skip("Triton (3.7) is not installed: it is published for Linux only")
    with interpreted_kernels():
        yield


@pytest.fixture
def gpu(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors on the CPU are taken for ones on a GPU."""
    monkeypatch.setattr(cuda, "_on_gpu", lambda x: True)
    monkeypatch.setattr(cuda, "_uses_triton", lambda: True)
    monkeypatch.setattr(cuda.bitsandbytes_op, "has_cuda", lambda: True)
    with native.override("torch"):
        yield
