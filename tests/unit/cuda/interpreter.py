"""Triton's interpreter with the arithmetic of the hardware, and the kernels loaded to run under it.

The interpreter computes with numpy, and differs from a GPU in three operations that kernels here use: its fused
multiply-add rounds twice, its conversion from float32 to bfloat16 cuts off instead of rounding, and its product of
bfloat16 tiles multiplies bit patterns. Here they are what PTX says: `fma.rn` and `cvt.rn.bf16.f32` round once, half to
even, and `mma` multiplies values. `test_interpreter.py` holds them to that.

Whether a function is interpreted is decided when its module is imported: so the kernels' are imported anew, and of
Triton's own, which another test may have imported, the functions are wrapped. All is put back.
"""

import ctypes
import ctypes.util
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

MODULES = ("rounding", "absmax", "activations", "lanes", "w8a16", "blockwise", "dequantizing")
PACKAGE = "quant.kernels.cuda"

Array = NDArray[Any]


def _libm() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
    for name, kind in (("fmaf", ctypes.c_float), ("fma", ctypes.c_double)):
        function = getattr(library, name)
        function.restype, function.argtypes = kind, [kind] * 3
    return library


def fused(x: Array, y: Array, z: Array) -> Array:
    """x * y + z rounded once, for float32 or float64."""
    function = getattr(_libm(), "fmaf" if z.dtype == np.float32 else "fma")
    results = [function(*map(float, values)) for values in zip(x.flat, y.flat, z.flat, strict=True)]
    return np.array(results, dtype=z.dtype).reshape(z.shape)


def to_bfloat16(values: Array) -> Array:
    """float32 -> the bits of bfloat16, uint16, rounded half to even; NaN as the hardware makes it."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded)


def from_bfloat16(bits: Array) -> Array:
    """The bits of bfloat16, uint16 -> float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _patch_builder(patch: pytest.MonkeyPatch) -> None:
    from triton import language as tl  # noqa: PLC0415
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle  # noqa: PLC0415

    cast, dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot

    def hardware_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        return TensorHandle(fused(x.data, y.data, z.data), z.dtype.scalar)

    def hardware_cast(self: Any, source: Any, dtype: Any) -> Any:
        pair = source.dtype.scalar, dtype.scalar
        if pair == (tl.float32, tl.bfloat16):
            return TensorHandle(to_bfloat16(np.ascontiguousarray(source.data)), dtype.scalar)
        if pair == (tl.bfloat16, tl.float32):
            return TensorHandle(from_bfloat16(source.data), dtype.scalar)
        return cast(self, source, dtype)

    def hardware_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (TensorHandle(from_bfloat16(each.data), tl.float32) for each in (a, b))
        return dot(self, a, b, *rest)

    patch.setattr(InterpreterBuilder, "create_fma", hardware_fma)
    patch.setattr(InterpreterBuilder, "cast_impl", hardware_cast)
    patch.setattr(InterpreterBuilder, "create_dot", hardware_dot)


def _interpret_library(patch: pytest.MonkeyPatch) -> None:
    """`tl.sum` and others are themselves written in Triton."""
    from triton import language as tl  # noqa: PLC0415
    from triton.runtime.interpreter import InterpretedFunction  # noqa: PLC0415
    from triton.runtime.jit import JITFunction  # noqa: PLC0415

    for module in (tl, tl.standard):
        for name, value in list(vars(module).items()):
            if isinstance(value, JITFunction):
                patch.setattr(module, name, InterpretedFunction(value.fn))


@contextmanager
def _fresh_modules() -> Iterator[None]:
    """`MODULES` are imported anew, and what was there before is put back."""
    package = importlib.import_module(PACKAGE)
    names = {name: f"{PACKAGE}.{name}" for name in MODULES}
    before = {name: sys.modules.pop(path, None) for name, path in names.items()}
    try:
        for path in names.values():
            importlib.import_module(path)
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(names[name], None)
            if module is None:
                vars(package).pop(name, None)
            else:
                sys.modules[names[name]] = module
                setattr(package, name, module)


@contextmanager
def interpreted_kernels() -> Iterator[None]:
    """While it lasts, the modules of `quant.kernels.cuda` hold kernels that run on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        _patch_builder(patch)
        _interpret_library(patch)
        # Padding is computed too, and overflows without harm.
        with _fresh_modules(), np.errstate(over="ignore", invalid="ignore"):
            yield
