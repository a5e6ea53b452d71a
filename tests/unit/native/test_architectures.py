"""x86-64 and 64-bit ARM compute the same bits: `digests.c` is compiled for both, and qemu runs what this CPU cannot.

The oracle holds the kernels of the architecture that the tests run on to the bit; equal digests hold the others' to
these.
"""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from quant import native

SOURCES = [path for path in sorted((Path(native.__file__).parent / "csrc").glob("*.c")) if path.stem != "module"]
PROGRAM = Path(__file__).with_name("digests.c")
FLAGS = ("-std=c11", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", f"-I{SOURCES[0].parent}")
TARGETS = {  # architecture: compiler, emulator and its variants
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", ("neon", "portable")),
    "x86_64": ("x86_64-linux-gnu-gcc", "qemu-x86_64", ("portable",)),
}


def digests(compiler: str, run: Sequence[str], names: Sequence[str], folder: Path) -> dict[str, str]:
    """Variant -> digest, of the program compiled by `compiler`, started by `run`."""
    program = folder / compiler
    sources = [str(path) for path in (*SOURCES, PROGRAM)]
    static = ("-static",) if run else ()  # an emulator has no libraries of the other architecture
    subprocess.run([compiler, *FLAGS, *static, *sources, "-lm", "-o", str(program)], check=True, timeout=300)
    result = subprocess.run([*run, str(program), *names], check=True, capture_output=True, text=True, timeout=300)
    return dict(line.split() for line in result.stdout.splitlines())


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the variants that this CPU runs."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc on PATH")
    return digests("gcc", (), native.supported(), tmp_path_factory.mktemp("here"))


def test_the_variants_of_this_architecture_agree(here: dict[str, str]) -> None:
    assert tuple(here) == native.supported()
    assert len(set(here.values())) == 1


@pytest.mark.parametrize("architecture", [name for name in TARGETS if name != platform.machine()])
def test_the_other_architecture_agrees(architecture: str, here: dict[str, str], tmp_path: Path) -> None:
    compiler, emulator, names = TARGETS[architecture]
    missing = [tool for tool in (compiler, emulator) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on PATH, to build and run for {architecture}: {', '.join(missing)}")
    there = digests(compiler, (emulator,), names, tmp_path)
    assert tuple(there) == names
    assert set(there.values()) == set(here.values())
