"""Kernels compiled to machine code for GPUs that are not there, with the arguments that the package launches them with.

    python -m tests.unit.cuda.compiled 80 90    for compute capabilities 8.0 and 9.0; prints what came out, as JSON

A launch is recorded instead of made; its tensors give the types, its other arguments the constants, and Triton compiles
that for a target by name and brings the tools to look at what came out. A process of its own, since Triton's
interpreter leaves its mark on the one that it ran in.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from quant.kernels.cuda import activations, blockwise, dequantizing, w8a16
from quant.schemes import NF4, W8A16, Scheme
from tests.unit.native.operands import BlockWeight, Int8Weight, random_weight

TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
CASES: dict[str, tuple[Scheme, int, bool]] = {
    "w8a16, 1 row": (W8A16(), 1, False),
    "w8a16, 16 rows": (W8A16(), 16, False),
    "w8a16, 64 rows": (W8A16(), 64, False),
    "w8a16, 512 rows": (W8A16(), 512, False),
    "nf4, 1 row": (NF4(), 1, False),
    "nf4-dq, 4 rows": (NF4(double_quant=True), 4, False),
    "nf4-dq, 512 rows": (NF4(double_quant=True), 512, True),
}
"""Every kernel in every tile that it is launched with: scheme, rows of x, whether 4-bit weights are dequantized."""


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments by name."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.kernel.fn.__name__)

    def types(self) -> tuple[dict[str, str], dict[tuple[int, ...], Any], dict[tuple[int, ...], Any]]:
        """Type by name, constants by place, and what is known of alignment by place."""
        signature: dict[str, str] = {}
        constants: dict[tuple[int, ...], Any] = {}
        aligned: dict[tuple[int, ...], Any] = {}
        for index, name in enumerate(self.kernel.arg_names):
            value = self.arguments[name]
            # Triton takes an integer of 1 for a constant too.
            if value is None or isinstance(value, bool) or name.isupper() or (isinstance(value, int) and value == 1):
                signature[name] = "constexpr"
                constants[index,] = value
                continue
            signature[name] = TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
            # What a launch tells of allocations and of sizes in whole 16s.
            if isinstance(value, Tensor) or value % 16 == 0:
                aligned[index,] = [["tt.divisibility", 16]]
        return signature, constants, aligned

    def compile(self, capability: int) -> "MachineCode":
        """The machine code for a GPU of this compute capability, as in 90 for 9.0."""
        signature, constants, aligned = self.types()
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants, attrs=aligned)
        target = GPUTarget("cuda", capability, 32)
        return MachineCode(triton.compile(source, target=target, options=self.options))


@dataclass(frozen=True)
class MachineCode:
    """compiled: Triton's compiled kernel."""

    compiled: Any

    @property
    def assembly(self) -> str:
        """In PTX."""
        return str(self.compiled.asm["ptx"])

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return int(self.compiled.metadata.shared)

    def usage(self) -> dict[str, int]:
        """What the assembler says: REG, registers per thread; STACK and LOCAL, bytes per thread outside of them."""
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.compiled.asm["cubin"])
            file.flush()
            command = [str(tool), "-res-usage", file.name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (line,) = re.findall(r"REG:.*", output)
        return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", line)}

    def instructions(self) -> list[str]:
        """The opcodes in the assembly, each once."""
        return sorted(set(re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)", self.assembly, re.MULTILINE)))


class Recorder:
    """Stands for a kernel, and keeps its launches."""

    def __init__(self, kernel: Any, launches: list[Launch]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **named: Any) -> None:
            options = {name: named.pop(name) for name in OPTIONS if name in named}
            bound = dict(zip(self.kernel.arg_names, arguments, strict=False)) | named
            self.launches.append(Launch(self.kernel, bound, options))

        return launch


def record(patch: pytest.MonkeyPatch, *modules: Any) -> list[Launch]:
    """The list to which launches of the kernels in `modules` will be added, in order."""
    launches: list[Launch] = []
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, triton.JITFunction) and value.fn.__module__ == module.__name__:
                patch.setattr(module, name, Recorder(value, launches))
    return launches


def launches(case: str) -> list[Launch]:
    """What a product of `CASES` with Phi-3's width in bfloat16 launches."""
    scheme, rows, dequantized = CASES[case]
    weight = random_weight(scheme, 32, 3072)
    x, bias = torch.zeros(rows, 3072, dtype=torch.bfloat16), torch.zeros(32, dtype=torch.bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        recorded = record(patch, activations, blockwise, dequantizing, w8a16)
        if isinstance(weight, Int8Weight):
            w8a16.linear(x, weight.codes, weight.scales, bias)
        else:
            assert isinstance(weight, BlockWeight)
            operands = weight.packed, weight.absmax, weight.absmax_scale, weight.absmax_offset
            layout = weight.scheme.codebook, weight.scheme.block_size, 32, bias
            (dequantizing if dequantized else blockwise).linear(x, *operands, *layout)
    return recorded


def main(capabilities: Sequence[int]) -> None:
    """Compile all `CASES`, the same launch once."""
    found, seen = [], set()
    for case in CASES:
        for launch in launches(case):
            key = launch.name, str(launch.types())
            for capability in capabilities if key not in seen else ():
                code = launch.compile(capability)
                about = {"case": case, "capability": capability, "kernel": launch.name, **launch.options}
                usage = {"shared_bytes": code.shared_bytes, **code.usage()}
                found.append(about | usage | {"instructions": code.instructions()})
            seen.add(key)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main([int(capability) for capability in sys.argv[1:]])
