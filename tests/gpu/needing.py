"""Lines that need a GPU: in a rehearsal on the CPU they are left out, noted and counted.

    if needs_cuda("CUDA graphs"):
        ...

is true on a machine that has what it takes. Elsewhere the place is noted, and the summary lists it. No other line of
`tests/gpu` may be left out for the kind of device: `.ci/run` measures that a rehearsal runs every line but those below
such an `if`, which `coveragerc` knows by its text, and `tests/contract/test_gpu_suite.py` has the list of them.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class LeftOut:
    """A place that a test did not go into: "file:line" of the `if`, and what it takes."""

    place: str
    what: str


class NeedsCuda:
    """Whether lines run that need a GPU, and on the CPU, which were left out.

    Args:
        device: what the tests run on; left_out: where places are noted, once for each test that comes there.
    """

    def __init__(self, device: torch.device, left_out: list[LeftOut]) -> None:
        self._device, self._left_out = device, left_out

    def __call__(self, what: str, gpus: int = 1) -> bool:
        """Whether the tests run on a GPU, and torch sees at least `gpus` of them; `what` for the summary."""
        there = self._device.type == "cuda" and torch.cuda.device_count() >= gpus
        if not there:
            caller = sys._getframe(1)
            place = Path(caller.f_code.co_filename).relative_to(ROOT).as_posix()
            self._left_out.append(LeftOut(f"{place}:{caller.f_lineno}", what))
        return there


def summary(left_out: list[LeftOut]) -> Iterator[str]:
    """A line for each place, with the number of tests that left it out."""
    for entry, tests in sorted(Counter(left_out).items(), key=lambda item: item[0].place):
        yield f"{entry.place}: {entry.what} (tests: {tests})"
