"""The command as a process: killed for real, taken up, and within the memory that the README promises.

The checkpoint has the shapes of a model of 0.27 B parameters, in bfloat16; its weights are zeros in a file with holes,
which read like any and take no disk.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import Phi3Config

from quant.checkpoint.folder import SINGLE, open_checkpoint
from quant.checkpoint.layout import lay_out
from quant.checkpoint.plan import OutputTensor
from quant.checkpoint_quantization import quantize_checkpoint
from quant.integrations.transformers import build_on_meta
from tests.full_size.quantizing import quantize_command
from tests.unit.checkpoint.files import digests

MEASURE = """
import sys
from tests.full_size.quantizing import run

command, small = sys.argv[1:-1], sys.argv[-1]
at = command.index("quantize") + 1
print(run(command, 1)[1], run([*command[:at], small, f"{small}.out", *command[at + 2 :]], 1)[1])
"""
"""A small program that runs the command, and once more on a small model, and prints the peaks of both, in bytes: those
of a child are counted from its parent's size.
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"vocab_size": 512, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 4}
    return checkpoint(tmp_path_factory.mktemp("process") / "model", sizes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two thousandths of its weights."""
    sizes = {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}
    return checkpoint(tmp_path_factory.mktemp("small") / "model", sizes)


def checkpoint(folder: Path, sizes: dict[str, int]) -> Path:
    config = Phi3Config(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0, dtype="bfloat16")
    config.save_pretrained(folder)
    state = build_on_meta(config, torch.bfloat16).state_dict()
    layout = lay_out([OutputTensor(SINGLE, name, t.dtype, tuple(t.shape)) for name, t in state.items()])
    (folder / SINGLE).write_bytes(layout.header)
    os.truncate(folder / SINGLE, layout.size)
    return folder


@pytest.fixture(scope="module")
def killed(model: Path) -> Path:
    """OUT of a command that was killed when it had finished some tensors."""
    out = model.with_name("out")
    journal = model.with_name("out.partial") / "journal.jsonl"
    process = subprocess.Popen(quantize_command(model, out, "nf4"), env=ENVIRONMENT)
    while process.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > 1):
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    return out


@pytest.fixture(scope="module")
def taken_up(model: Path, killed: Path, small: Path) -> list[str]:
    """What the same command prints then, and the peaks of `MEASURE`."""
    command = [sys.executable, "-c", MEASURE, *quantize_command(model, killed, "nf4"), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow  # with the commands, measured: 8.4 s
def test_a_command_that_was_killed_is_finished_to_the_bit(model: Path, killed: Path, taken_up: list[str]) -> None:
    tensors = len(open_checkpoint(killed).tensors)
    kept, _, rest = taken_up[0].removeprefix("resumed: ").partition(" ")
    assert 0 < int(kept) < tensors
    assert rest == f"of {tensors} tensors were finished before, and are intact"
    quantize_checkpoint(str(model), model.with_name("uninterrupted"), "nf4")
    assert digests(killed) == digests(model.with_name("uninterrupted"))
    assert not killed.with_name("out.partial").exists()


def test_it_takes_as_much_memory_for_any_model(model: Path, taken_up: list[str]) -> None:
    """Most of that are torch and transformers, of whose files more or less are in memory. Of the weights the smallest
    copy would be the 4-bit codes, a quarter of the file.
    """
    peak, of_small = map(int, taken_up[-1].split())
    assert of_small > 10**8
    assert peak - of_small < (model / SINGLE).stat().st_size // 4
