"""A plan that would make a folder in which a loader misses a tensor, or takes another's, is refused before the work."""

from pathlib import Path

import pytest
import torch

from quant.checkpoint.folder import INDEX, Checkpoint
from quant.checkpoint.manifest import MANIFEST
from quant.checkpoint.plan import Job, OutputTensor, Plan, check_plan
from quant.checkpoint.run import run
from quant.errors import QuantError


def job(file: str, name: str) -> Job:
    """One that makes this tensor, and must not be started."""
    return Job((OutputTensor(file, name, torch.int8, (1,)),), lambda inputs: pytest.fail("computed something"))


def plan(*jobs: Job, texts: tuple[str, ...] = (), copies: tuple[str, ...] = ()) -> Plan:
    return Plan(jobs, True, {}, dict.fromkeys(texts, "text"), {name: Path(name) for name in copies})


A, B = "a.safetensors", "b.safetensors"
WRONG = {
    "a tensor twice in a file": (
        plan(job(A, "x"), job(A, "x")),
        r"two tensors would be called x, in a\.safetensors: ",
    ),
    "a tensor in two files": (
        plan(job(A, "x"), job(B, "x")),
        r"two tensors would be called x, in a\.safetensors and b\.safetensors: the input has one of that name",
    ),
    "a text in the place of tensors": (plan(job(A, "x"), texts=(A,)), r"two files would be called a\.safetensors"),
    "a copy in the place of tensors": (plan(job(A, "x"), copies=(A,)), r"two files would be called a\.safetensors"),
    "a copy in the place of a text": (plan(texts=("config.json",), copies=("config.json",)), r"called config\.json"),
    "a copy in the place of the index": (plan(copies=(INDEX,)), rf"two files would be called {INDEX}"),
    "a copy in the place of the manifest": (plan(copies=(MANIFEST,)), rf"two files would be called {MANIFEST}"),
    "tensors in another file": (
        plan(job("a.bin", "x")),
        r"tensors would be in a file called 'a\.bin': rename it.*safet",
    ),
    "tensors elsewhere": (plan(job(f"../{A}", "x")), r"tensors would be in a file called '\.\./a\.safetensors'"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_it_is_refused(checkpoint: Checkpoint, out: Path, wrong: Plan, message: str) -> None:
    with pytest.raises(QuantError, match=message):
        run(wrong, checkpoint, out)
    assert list(out.parent.iterdir()) == [checkpoint.folder]


def test_files_and_tensors_of_different_names_are_a_plan() -> None:
    check_plan(plan(job(A, "x"), job(B, "y"), texts=("config.json",), copies=("tokenizer.json",)))
