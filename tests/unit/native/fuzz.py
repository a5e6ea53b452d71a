"""Calls of kernels that were built with sanitizers, run as a script: `fuzz.py FOLDER [short|moved OPERAND]`.

FOLDER holds the `_kernels` module. Every operand lies in memory of its own from malloc, of exactly its size, so that
AddressSanitizer sees the first byte read or written outside of it. Sizes, formats and values are drawn from a fixed
seed, the same for every variant: NaN, infinities, subnormals, and the extremes for which sums of integers come closest
to overflow. The standard library is enough for that; torch and numpy would take longer to load than this takes to run,
and allocate in their own ways.

`short x` allocates every x one byte too short, `moved x` one byte off its alignment: the sanitizers must object. What
is printed at the end: how many calls of each function, and a digest of the results of each variant.
"""

import collections
import ctypes
import hashlib
import itertools
import json
import random
import struct
import sys
from typing import Any

ROUNDS = 200
WIDTHS = (4, 2, 2)
"""Bytes of float32, bfloat16 and float16, by their numbers."""
LARGE = ((1, 70, 8225), (1030, 3, 64), (5, 40, 4112), (33, 65, 528), (70, 300, 513), (8, 300, 1024)) * 2
"""Rows, outputs, inputs: more rows than go at once, rows longer than slices, and enough work for two threads."""
EXTREME = (3, 20, 8225)
"""The same for products that are all as large as they can be: more of them than 32 bits hold the sum of."""

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


class Heap:
    """The operands of one call, each in its own allocation."""

    def __init__(self, fault: str, operand: str) -> None:
        self.fault, self.operand = fault, operand
        self.allocated: list[int] = []

    def room(self, name: str, size: int) -> int:
        """The address of `size` bytes; of one less, or one further on, where this operand is to be at fault."""
        fault = self.fault if name == self.operand else ""
        address: int = libc.malloc(max(size - (fault == "short"), 0) + (fault == "moved"))
        self.allocated.append(address)
        return address + (fault == "moved")

    def put(self, name: str, data: bytes) -> int:
        """The address of a copy of `data`."""
        address = self.room(name, len(data))
        ctypes.memmove(address, data, max(len(data) - (name == self.operand), 0))
        return address

    def clear(self) -> None:
        """Free everything."""
        for address in self.allocated:
            libc.free(address)
        self.allocated.clear()


class Fuzz:
    """Random calls of one variant, numbered `index` among those that the CPU runs."""

    def __init__(self, kernels: Any, index: int, heap: Heap) -> None:
        self.kernels, self.index, self.heap = kernels, index, heap
        self.random = random.Random(2024)
        self.extreme = False
        self.digest = hashlib.sha256()
        self.calls: collections.Counter[str] = collections.Counter()

    def floats(self, count: int, dtype: int) -> bytes:
        """Any bits, finite values below 2, subnormals, or one value `count` times."""
        width, kind = WIDTHS[dtype], 3 if self.extreme else self.random.randrange(4)
        if kind == 3:
            return struct.pack(("<f", "<H", "<H")[dtype], (-3.0, 0xC040, 0xC200)[dtype]) * count
        data = bytearray(self.random.randbytes(count * width))
        mask = (0xFF, 0xBF, 0x80)[kind]
        data[width - 1 :: width] = data[width - 1 :: width].translate(bytes(byte & mask for byte in range(256)))
        return bytes(data)

    def codes(self, count: int) -> bytes:
        """Any bytes, or the largest code of int8, over and over."""
        return b"\x80" * count if self.extreme else self.random.randbytes(count)

    def linear(self, rows: int, outputs: int, inputs: int, few: bool, int8: bool) -> None:
        """One product with int8 or 4-bit weights, in one of the two ways."""
        dtype, bias_dtype = self.random.randrange(3), self.random.randrange(3)
        put, size = self.heap.put, rows * outputs * WIDTHS[dtype]
        bias = put("bias", self.floats(outputs, bias_dtype)) if self.random.randrange(2) else None
        x, y = put("x", self.floats(rows * inputs, dtype)), self.heap.room("y", size)
        common = (self.index, self.random.choice((1, 2)), few, rows, outputs, inputs, x, dtype, bias, bias_dtype, y)
        if int8:
            codes = put("codes", self.codes(outputs * inputs))
            self.call("linear_int8", *common, codes, put("scales", self.floats(outputs, 0)))
        else:
            self.call("linear_blockwise", *common, *self.blocks(outputs * inputs))
        self.digest.update(ctypes.string_at(y, size))

    def blocks(self, count: int) -> tuple[int | float | None, ...]:
        """The operands that say what `count` 4-bit weights are, with or without double quantization."""
        block_size = 2 ** self.random.randrange(5, 13)
        blocks = -(-count // block_size)
        put, packed = self.heap.put, self.heap.put("packed", self.codes(-(-count // 2)))
        absmax: tuple[int | None, ...] = (put("absmax", self.floats(blocks, 0)), None, None, None)
        if self.random.randrange(2):
            absmax = (
                put("absmax", self.random.randbytes(blocks)),
                put("absmax_scales", self.floats(-(-blocks // 256), 0)),
                put("level8", self.floats(256, 0)),
                put("absmax_offset", self.floats(1, 0)),
            )
        levels = [4095 if self.extreme else self.random.randint(-4095, 4095) for _ in range(16)]
        return (packed, *absmax, put("levels", struct.pack("<16h", *levels)), 4095.0, block_size)

    def quantize(self, rows: int, inputs: int) -> None:
        """Quantize one weight in rows and in blocks."""
        dtype, threads, count = self.random.randrange(3), self.random.choice((1, 2)), rows * inputs
        weight = self.heap.put("weight", self.floats(count, dtype))
        codes, scales = self.heap.room("int8", count), self.heap.room("row_scales", rows * 4)
        bad = self.call("quantize_int8", self.index, threads, rows, inputs, weight, dtype, codes, scales)
        block_size = 2 ** self.random.randrange(5, 13)
        blocks, half = -(-count // block_size), -(-count // 2)
        midpoints = sorted(self.random.uniform(-1, 1) for _ in range(15))
        order = self.random.sample(range(16), 16)
        tables = self.heap.put("midpoints", struct.pack("<15f", *midpoints)), self.heap.put("order", bytes(order))
        packed, absmax = self.heap.room("nibbles", half), self.heap.room("block_absmax", blocks * 4)
        weights = (count, weight, dtype, block_size)
        bad += self.call("quantize_blocks", self.index, threads, *weights, *tables, packed, absmax)
        self.digest.update(b"%d" % bad)
        if not bad:  # else nothing is promised of the codes
            for address, size in ((codes, count), (scales, rows * 4), (packed, half), (absmax, blocks * 4)):
                self.digest.update(ctypes.string_at(address, size))

    def call(self, name: str, *operands: int | float | None) -> int:
        """Call a function and count it."""
        self.calls[name] += 1
        return getattr(self.kernels, name)(*operands) or 0

    def sizes(self) -> tuple[int, int, int]:
        """Rows, outputs, inputs; often a few rows, and inputs that are whole groups, chunks or steps."""
        step = self.random.choice((1, 1, 16, 32, 64, 256))
        rows = self.random.randint(0, self.random.choice((8, 70)))
        return rows, self.random.randint(1, 70), self.random.randint(1, 600 // step) * step

    def run(self) -> None:
        """All calls, the memory of each freed before the next."""
        self.extreme = True
        for few, int8 in itertools.product((False, True), repeat=2):
            self.linear(*EXTREME, few, int8)
            self.heap.clear()
        self.extreme = False
        for sizes in [*LARGE, *(self.sizes() for _ in range(ROUNDS))]:
            self.linear(*sizes, bool(self.random.randrange(2)), bool(self.random.randrange(2)))
            self.heap.clear()
            self.quantize(*sizes[1:])
            self.heap.clear()


def share_openmp(kernels: Any) -> bool:
    """Let two threads compute where there is a libgomp."""
    try:
        parallel = ctypes.CDLL("libgomp.so.1").GOMP_parallel
    except OSError:
        return False
    kernels.share_openmp(ctypes.cast(parallel, ctypes.c_void_p).value)
    return True


def main(folder: str, fault: str = "", operand: str = "") -> None:
    """Run every variant and print what was done."""
    sys.path.insert(0, folder)
    import _kernels  # type: ignore[import-not-found]  # noqa: PLC0415

    report: dict[str, Any] = {"openmp": share_openmp(_kernels), "calls": {}, "digests": {}}
    for index, variant in enumerate(_kernels.supported()):
        fuzz = Fuzz(_kernels, index, Heap(fault, operand))
        fuzz.run()
        report["calls"][variant], report["digests"][variant] = dict(fuzz.calls), fuzz.digest.hexdigest()
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
