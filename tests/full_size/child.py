"""`python -m tests.full_size.child TASK`: measure one part of one variant in a process of its own; JSON on stdout.

Only so is its peak of memory its own, and its memory as fresh as that of whoever loads the model.
"""

import datetime
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from quant import native
from quant.evaluate.fingerprint import cpu_name
from tests.full_size.compiled import measure_compiled
from tests.full_size.generating import measure_generating
from tests.full_size.loading import load
from tests.full_size.outside import measure_outside
from tests.full_size.system import memory
from tests.full_size.variants import Sizes, Task

MEASURES: dict[str, Callable[[Any, Sizes, int], dict[str, Any]]] = {
    "generate": measure_generating,
    "compile": measure_compiled,
    "outside": measure_outside,
}


def measure(task: Task) -> dict[str, Any]:
    """What `task` asks for, how the model was loaded, and the peak of memory over all."""
    model, loading = load(task)
    return {"loading": loading, **MEASURES[task.part](model, task.sizes, task.repeats), "memory_at_end": memory()}


def environment(threads: int) -> dict[str, Any]:
    """What times depend on besides the model, and the day."""
    import transformers  # noqa: PLC0415

    return {
        "cpu": cpu_name(),
        "threads": threads,
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "kernels": native.variant(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
    }


def main() -> None:
    """The command line: a task, or the number of threads to have the environment described."""
    if sys.argv[1].isdecimal():
        json.dump(environment(int(sys.argv[1])), sys.stdout)
        return
    task = Task.from_json(sys.argv[1])
    torch.set_num_threads(task.sizes.threads)
    json.dump(measure(task), sys.stdout)


if __name__ == "__main__":
    main()
