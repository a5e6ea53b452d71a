"""The products on NVIDIA GPUs, from compute capability 8.0: Triton kernels, and bitsandbytes' where it has them.

| product | rows of x | by | the CPU's bits |
|---|---|---|---|
| W8A16 | one | `w8a16`, on the CUDA cores | yes |
| W8A16 | more | `w8a16`, int8 x int8 on tensor cores | yes |
| NF4, FP4, INT4 | up to `FEW_ROWS` | `blockwise`, on the CUDA cores | yes |
| NF4, FP4 | more, float16 and bfloat16 | bitsandbytes' `gemm_4bit`, where it is installed | no |
| NF4, FP4, INT4 | more, float16 and bfloat16 | `dequantizing`, on tensor cores | no |

Integer sums do not depend on their order, so the integer products give the bits that `quant.kernels.cpu` specifies, and
a row's output does not depend on how many rows there are. Where exact sums cost too much (`blockwise` says how much),
weights are rounded to the dtype of x as a float layer has them, and a bound is held instead. What is left to
`quant.kernels.reference`, which writes the whole weight in floats for each call: float64, float32 with many rows of
4-bit weights, gradients, in_features beyond 131072 (W8A16) or no multiple of 16 (4 bits); and, after a warning, all on
other GPUs, and without Triton 3.7 or later all but what bitsandbytes takes.

bitsandbytes' op takes our tensors as they are: codes, absmax and double quantization are laid out alike. It chooses
between kernels that it has measured on many GPUs, some of which write the whole weight in floats.

No kernel here has run on a GPU yet. Each runs under Triton's interpreter on the CPU, against the oracle, and is
compiled to machine code for several generations of GPUs (`tests/unit/cuda`); tile sizes are unmeasured.

Triton and bitsandbytes are imported by the first product that needs them: Triton comes with the CUDA builds of torch.
"""

import functools
import importlib
import importlib.util
import warnings
from typing import Any

import torch
from torch import Tensor

from quant.kernels.cuda import bitsandbytes_op

FEW_ROWS = 8
"""Up to so many rows 4-bit products are exact. Unmeasured; each program multiplies up to 4 rows, so the weight is read
twice at most, the second time from the cache where it fits.
"""
LARGEST_K = 131072
"""Inputs up to which sums of int8 products fit 32 bits: 131072 * 128 * 127 < 2^31, for codes are at least -127."""
GROUP = 16
"""4-bit weights are read in groups of so many inputs."""
OLDEST_CAPABILITY = (8, 0)
OLDEST_TRITON = (3, 7)
"""That of torch 2.12 and 2.13. With earlier ones nothing here is tested, so torch multiplies."""
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_PLAIN = (Tensor, torch.nn.Parameter)


def takes_int8(x: Tensor, rows: int, *operands: Any) -> bool:
    """Whether there are kernels for x and int8 weights."""
    return _reads(x) and x.shape[-1] <= LARGEST_K


def takes_few_blockwise(x: Tensor, rows: int, *operands: Any) -> bool:
    """Whether there are exact ones for x and 4-bit weights."""
    return rows <= FEW_ROWS and _reads(x) and x.shape[-1] % GROUP == 0


def takes_many_blockwise(x: Tensor, rows: int, *operands: Any) -> bool:
    """Whether there are ones that dequantize to the dtype of x."""
    return _reads(x) and x.dtype != torch.float32 and x.shape[-1] % GROUP == 0


def takes_bitsandbytes(x: Tensor, rows: int, *operands: Any) -> bool:
    """Whether bitsandbytes has an op for x and the weight, without Triton too; `operands` are those of
    `blockwise_linear` after x.
    """
    return _on_gpu(x) and _is_plain(x) and x.dtype != torch.float32 and bitsandbytes_op.takes(x, *operands)


def is_usable(device: torch.device) -> bool:
    """Whether all kernels run on `device`, a GPU. Where not, nobody is warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(_is_capable.__wrapped__(device) and _uses_triton.__wrapped__())


def _reads(x: Tensor) -> bool:
    """Whether Triton's kernels read x as it is."""
    return _on_gpu(x) and _is_plain(x) and _uses_triton()


def _is_plain(x: Tensor) -> bool:
    """What has no elements is torch's."""
    return x.dtype in _DTYPES and type(x) in _PLAIN and x.dim() > 0 and x.numel() > 0


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda and _is_capable(x.device)


@functools.cache
def _is_capable(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 and int8 on tensor cores. It warns once where not."""
    if torch.version.hip is not None:
        _warn("quantized layers", "there are no kernels for AMD's")
        return False
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        needed, found = (".".join(map(str, each)) for each in (OLDEST_CAPABILITY, capability))
        name = torch.cuda.get_device_name(device)
        _warn("quantized layers", f"kernels need compute capability {needed}, {name} has {found}")
        return False
    return True


@functools.cache
def _uses_triton() -> bool:
    """Whether Triton compiles the kernels here. It warns once where not."""
    needed = ".".join(map(str, OLDEST_TRITON))
    missing = f"Triton {needed} or later, which comes with torch 2.12 and later for CUDA, is not installed"
    reason = _driver_error() if has_triton() else missing
    if reason:
        _warn("quantized layers, but for what bitsandbytes multiplies,", reason)
    return not reason


def _driver_error() -> str:
    """Why Triton is not ready here, empty where it is: it compiles a part of itself in C when it is first used."""
    try:
        # Made when it is first asked for.
        _ = importlib.import_module("triton.runtime").driver.active
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return f"Triton, which needs a C compiler and Python's headers, says {what}"
    return ""


def _warn(what: str, reason: str) -> None:
    warnings.warn(
        f"{what} convert their weight in every call on this GPU, which is slow, and their bits are not those of the "
        f"CPU: {reason}",
        stacklevel=2,
    )


def has_triton() -> bool:
    """Whether Triton is installed, and not older than `OLDEST_TRITON`."""
    if importlib.util.find_spec("triton") is None:
        return False
    # Not the version of a distribution: there are several that bring the package.
    major, minor, *_ = importlib.import_module("triton").__version__.split(".")
    return (int(major), int(minor)) >= OLDEST_TRITON


def w8a16_linear(x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in], codes int8 [out, in], scales float32 [out], bias [out] -> [..., out] in x's dtype, with the bits of
    the CPU.
    """
    from quant.kernels.cuda import w8a16  # noqa: PLC0415

    return w8a16.linear(x, codes, scales, bias)


def blockwise_linear_few_rows(x: Tensor, *operands: Any) -> Tensor:
    """As `quant.kernels.reference.blockwise_linear`, with the bits of the CPU."""
    from quant.kernels.cuda import blockwise  # noqa: PLC0415

    return blockwise.linear(x, *operands)


def blockwise_linear_many_rows(x: Tensor, *operands: Any) -> Tensor:
    """As `quant.kernels.reference.blockwise_linear`, with weights rounded to x's dtype."""
    from quant.kernels.cuda import dequantizing  # noqa: PLC0415

    return dequantizing.linear(x, *operands)


def blockwise_linear_bitsandbytes(x: Tensor, *operands: Any) -> Tensor:
    """Likewise, by bitsandbytes."""
    return bitsandbytes_op.linear(x, *operands)
