"""Which instruction set's kernels run: what this CPU supports, what the environment or a test asks for."""

import ctypes
import functools
import importlib
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from quant.errors import QuantError

NO_COMPILER = "quant was installed without a C compiler: install gcc or clang and reinstall quant"


def _load() -> tuple[Any, str]:
    """The extension module, or None and why it is not there."""
    try:
        return importlib.import_module("quant.native._kernels"), ""
    except ModuleNotFoundError:
        return None, NO_COMPILER
    except ImportError as error:
        return None, f"quant's kernels cannot be loaded ({error}): reinstall quant on this machine"


kernels, _reason = _load()

VARIANTS = ("neon", "portable") if platform.machine() in ("aarch64", "arm64") else ("avx512", "avx2", "portable")
"""Those of this architecture."""
ENVIRONMENT_VARIABLE = "QUANT_CPU_KERNELS"

_forced: str | None = None


def supported() -> tuple[str, ...]:
    """The variants that this CPU runs, fastest first; none where the extension was not built."""
    return () if kernels is None else tuple(kernels.supported())


def variant() -> str:
    """The variant in use, or "torch" where there is none.

    Raises:
        QuantError: `QUANT_CPU_KERNELS` names one that does not exist or does not run here.
    """
    return _forced or _default()


@functools.cache
def _default() -> str:
    asked = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if asked:
        _check(asked)
        return asked
    if kernels is None:
        warnings.warn(
            "quantized layers convert their weight in every call, which is slow, and their bits depend on the batch: "
            + _reason,
            stacklevel=2,
        )
        return "torch"
    return supported()[0]


def _check(name: str) -> None:
    if name != "torch" and name not in supported():
        usable = ", ".join((*supported(), "torch"))
        raise QuantError(f"no CPU kernels {name!r} on this machine: use one of {usable} ({ENVIRONMENT_VARIABLE})")


@contextmanager
def override(name: str) -> Iterator[None]:
    """Use the variant `name` ("torch" for none) inside the context, in all threads.

    Raises:
        QuantError: no such variant on this machine.
    """
    global _forced
    _check(name)
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


@functools.cache
def variant_index(name: str) -> int:
    _share_openmp()
    return supported().index(name)


@functools.cache
def _share_openmp() -> None:
    """Hand the extension the parallel region of the OpenMP runtime that torch is linked to, whatever its file is."""
    torch_libraries = ctypes.CDLL(torch._C.__file__)
    function = getattr(torch_libraries, "GOMP_parallel", None)
    if function is not None:
        kernels.share_openmp(ctypes.cast(function, ctypes.c_void_p).value)
