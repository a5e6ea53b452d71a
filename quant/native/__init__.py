"""The kernels in C: loading them, choosing an instruction set, and calling them with checked tensors.

`quant/native/csrc` is compiled by `pip install` into one extension module that knows neither torch's headers nor one
version of Python (limited API): it takes addresses and sizes. Everything about tensors is checked (`calls.py`) before
an address is taken. What the functions compute is specified where they are used: `quant.kernels.cpu` (products) and
`quant.numerics` (quantizing). Every variant gives the same bits, so which one runs is a matter of speed alone:

| variant | needs |
|---|---|
| `avx512` | x86-64 with AVX-512 F, BW, DQ, VL and VNNI |
| `avx2` | x86-64 with AVX2, FMA and F16C |
| `neon` | 64-bit ARM |
| `portable` | any little-endian CPU with a C compiler like gcc or clang |

The first that runs on this CPU is taken; the environment variable `QUANT_CPU_KERNELS` forces one, or `torch` for none.
Without a compiler the install succeeds all the same, and the first use says once that the slow way is taken.

Threads are torch's: as many as `torch.get_num_threads()` says, from the OpenMP runtime that torch itself has loaded, so
that no second pool of threads spins beside it. Where that runtime has no `GOMP_parallel` (libgomp and Intel's libiomp5
do), one thread computes.
"""

from quant.native.calls import DTYPES, linear_blockwise, linear_int8, quantize_blocks, quantize_int8, reads
from quant.native.variants import ENVIRONMENT_VARIABLE, VARIANTS, override, supported, variant

__all__ = [
    "DTYPES",
    "ENVIRONMENT_VARIABLE",
    "VARIANTS",
    "linear_blockwise",
    "linear_int8",
    "override",
    "quantize_blocks",
    "quantize_int8",
    "reads",
    "supported",
    "variant",
]
