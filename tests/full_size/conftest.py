"""A checkpoint of Phi-3-mini's form, a thousand times smaller: written once per run by the script that is tested."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.full_size.make import write_checkpoint
from tests.full_size.phi3 import phi3_config
from tests.full_size.variants import Sizes, Task

SIZES = Sizes(prompt=5, long_prompt=9, new_tokens=4, rounds=2, threads=1)


@pytest.fixture(scope="module", autouse=True)
def single_threaded() -> Iterator[None]:
    """One thread: on a busy machine the threads of a tiny operation mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, width 192, vocabulary 2004; one file."""
    folder = tmp_path_factory.mktemp("full-size") / "tiny"
    write_checkpoint(folder, phi3_config(layers=2, shrink=16))
    return folder


def task(part: str, variant: str, folder: Path) -> Task:
    """Measure in memory, at `SIZES`."""
    return Task(part, variant, str(folder), None, 2, SIZES)
