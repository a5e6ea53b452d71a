"""A tiny Phi-3 with a byte-level tokenizer on disk, as a user's model folder: random weights, made once per run, never
downloaded.
"""

import importlib.util
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from quant import cli, reference_model
from quant.checkpoint_conversion import convert_checkpoint
from quant.evaluate import generation
from tests.models import tiny_phi3
from tests.unit.cli_runner import Outcome, Run
from tests.unit.folders import SCHEME, save_float, save_ours

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
SHARPNESS = 20
"""Random weights predict nearly uniformly. A head this much larger makes logits of a few nats, so that quantizing
changes something.
"""


def words(count: int) -> str:
    """Pseudo-random words, always the same."""
    source = random.Random(1)
    return " ".join("".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(1, 9))) for _ in range(count))


def save_tokenizer(folder: Path) -> None:
    """Byte-level BPE of 300 tokens, of which the first three are special; adds no BOS by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([words(500)], trainer)
    pad, bos, eos = SPECIAL_TOKENS
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos).save_pretrained(
        folder
    )


def save_model(folder: Path, tied: bool) -> Path:
    model = tiny_phi3(tied, hidden_size=64, intermediate_size=128)
    model.lm_head.weight.data.mul_(1 if tied else SHARPNESS)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vocabulary 512, hidden 64, two layers, 256 positions, untied head: 9 linear layers."""
    return save_model(tmp_path_factory.mktemp("tiny-phi3"), tied=False)


@pytest.fixture(scope="session")
def tied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the head's weight shared with the embedding."""
    return save_model(tmp_path_factory.mktemp("tied-phi3"), tied=True)


@pytest.fixture(scope="session")
def float_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A smaller model of each kind that differs on disk, by name; not to be changed."""
    return save_float(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def our_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model quantized and saved by this library, 8 of its 9 linear layers; not to be changed."""
    return save_ours(model_folder, tmp_path_factory.mktemp("quantized") / "ours", SCHEME)


@pytest.fixture(scope="session")
def their_folder(our_folder: Path) -> Path:
    """The same in bitsandbytes' format; not to be changed."""
    return convert_checkpoint(str(our_folder), our_folder.with_name("theirs"), "bitsandbytes").outcome.out


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of a few thousand tokens."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(words(1000), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def single_threaded() -> Iterator[None]:
    """One thread: on a busy machine the threads of a tiny operation mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def quick_comparisons(model_folder: Path, single_threaded: None) -> Iterator[None]:
    """For tests that run whole comparisons: the tiny model in place of the embedded one, which they warm up with, and
    generation timed by the modules it calls. On a busy machine a clock may show three tokens sooner than one.
    """
    calls = 0

    def tick(module: torch.nn.Module, inputs: object) -> None:
        nonlocal calls
        calls += 1

    hook = torch.nn.modules.module.register_module_forward_pre_hook(tick)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_model, "FOLDER", model_folder)
        patch.setattr(generation, "time", SimpleNamespace(perf_counter=lambda: float(calls)))
        yield
    hook.remove()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("inspect", folder)`: the command line's entry point with these arguments."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["quant", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return call


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights fails the test: what can be seen without them must be refused without them."""
    monkeypatch.setattr("quant.variants.load_model", lambda *_, **__: pytest.fail("loaded a model"))


@pytest.fixture
def damaged_folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, for a test to damage."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.fixture
def ours(our_folder: Path, tmp_path: Path) -> Path:
    """A copy of `our_folder`, for a test to change."""
    return shutil.copytree(our_folder, tmp_path / "ours")


@pytest.fixture
def theirs(their_folder: Path, tmp_path: Path) -> Path:
    """A copy of `their_folder`, for a test to change."""
    return shutil.copytree(their_folder, tmp_path / "theirs")


@pytest.fixture
def without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where it is not installed."""
    find_spec = importlib.util.find_spec

    def find_others(name: str, package: str | None = None) -> object:
        return None if name == "bitsandbytes" else find_spec(name, package)

    monkeypatch.setattr("importlib.util.find_spec", find_others)
