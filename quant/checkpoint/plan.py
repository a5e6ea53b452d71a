"""What a conversion makes, as data: which tensors go to which file, and the jobs that produce them.

A plan is complete before anything is computed, so all sizes are known (`quant.checkpoint.layout`), the disk is asked
for the space at once, and a finished tensor of an interrupted run can be recognised. A job makes one or more output
tensors together, because they come from one reading of their inputs (codes and scales), and is the unit that a run
repeats or skips.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.checkpoint.folder import INDEX, WEIGHTS, is_plain_name
from quant.checkpoint.manifest import MANIFEST
from quant.checkpoint.reading import Inputs
from quant.errors import QuantError

Produce = Callable[[Inputs], Iterator[tuple[str, Tensor]]]
"""Yields (name of the output tensor, next chunk of its flattened elements) until every output of the job is complete.
Chunks of one output come in order, those of several may alternate. A chunk is written before the next is asked for, so
its memory may be used again. It is called from another thread, together with other jobs."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written: the name of its file in the output folder, its own name, dtype and shape."""

    file: str
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Job:
    """Output tensors that are made together.

    Attributes:
        outputs: what is made; they may go to different files.
        produce: makes it; raises QuantError, naming file and tensor, for values that cannot be converted.
    """

    outputs: tuple[OutputTensor, ...]
    produce: Produce


@dataclass(frozen=True)
class Plan:
    """A conversion of a checkpoint.

    Attributes:
        jobs: in the order in which they are started.
        sharded: whether an index is written.
        settings: JSON values that say how the jobs convert (scheme, dtype, ...): an interrupted run is taken up only
            by a plan with the same ones.
        texts: name -> content, for the small files that are made (config.json).
        copies: name -> source, for those that are copied.
    """

    jobs: tuple[Job, ...]
    sharded: bool
    settings: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, list[OutputTensor]]:
        """Name of each safetensors file -> its tensors."""
        files: dict[str, list[OutputTensor]] = {}
        for job in self.jobs:
            for tensor in job.outputs:
                files.setdefault(tensor.file, []).append(tensor)
        return files


def check_plan(plan: Plan) -> None:
    """What the files that a plan makes must be for a loader to find every tensor, and each once.

    Raises:
        QuantError: two tensors of one name, in whichever files; a file of tensors that is not called `*.safetensors`;
            two files of one name, or one of the index's or the manifest's.
    """
    files: dict[str, str] = {}
    for tensor in (tensor for job in plan.jobs for tensor in job.outputs):
        if tensor.name in files:
            places = " and ".join(sorted({files[tensor.name], tensor.file}))
            raise QuantError(f"two tensors would be called {tensor.name}, in {places}: the input has one of that name")
        files[tensor.name] = tensor.file
    taken = [INDEX, MANIFEST]
    for name in (*plan.files, *plan.texts, *plan.copies):
        if name in taken:
            raise QuantError(f"two files would be called {name}: rename the one of the input")
        taken.append(name)
    for name in plan.files:
        if not is_plain_name(name) or not name.endswith(WEIGHTS):
            raise QuantError(f"tensors would be in a file called {name!r}: rename it, in the index too, to *{WEIGHTS}")
