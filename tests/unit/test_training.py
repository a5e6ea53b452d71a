"""The script that made the reference model, end to end in small: a tiny text, a hundred steps, the same bytes again."""

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from quant.evaluate.perplexity import perplexity, stream_losses
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import load_model, load_tokenizer, tokenize
from quant.reference_model import train
from tests.fakes import exp_tolerance, loss_tolerance, mean_tolerance
from tests.models import tiny_phi3

SPEECHES = 25
STEPS, BATCH_SIZE, WINDOW, VOCAB_SIZE = 100, 4, 16, 300

pytestmark = pytest.mark.usefixtures("single_threaded")


@dataclass(frozen=True)
class Runs:
    """Two runs of the script on the same speeches: the folders they wrote."""

    first: Path
    second: Path


def speech(index: int) -> str:
    return f"Speech {index}. The state of the union is strong, and the people are {'very ' * (index % 3)}well. " * 4


@pytest.fixture(scope="module")
def small() -> Iterator[pytest.MonkeyPatch]:
    """The script's constants, made small; what a layer is stays."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "STEPS": STEPS,
            "BATCH_SIZE": BATCH_SIZE,
            "WINDOW": WINDOW,
            "VOCAB_SIZE": VOCAB_SIZE,
            "WARMUP_STEPS": 10,
            "LAYERS": 1,
        }.items():
            patch.setattr(train, name, value)
        yield patch


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, small: pytest.MonkeyPatch) -> Path:
    """A folder of speeches, expected by its hash as the real one is."""
    folder = tmp_path_factory.mktemp("speeches")
    for index in range(SPEECHES):
        (folder / f"{index:03}.txt").write_text(f"\n{speech(index)}\n", encoding="utf-8")
    joined = "\n\n".join(speech(index).strip() for index in range(SPEECHES))
    small.setattr(train, "TEXTS_SHA256", hashlib.sha256(joined.encode()).hexdigest())
    return folder


@pytest.fixture(scope="module")
def runs(texts: Path, tmp_path_factory: pytest.TempPathFactory, single_threaded: None) -> Runs:
    folders = [tmp_path_factory.mktemp("run") / "model" for _ in range(2)]
    for seed, folder in enumerate(folders):
        with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
            patch.setattr(sys, "argv", ["train", str(texts), str(folder)])
            torch.manual_seed(seed)  # the script's own seed must decide, not what was before
            train.main()
    return Runs(*folders)


def test_the_same_seed_gives_the_same_bytes(runs: Runs) -> None:
    first, second = (
        {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "training.json"}
        for folder in (runs.first, runs.second)
    )
    assert {"model.safetensors", "config.json", "tokenizer.json", "held_out.txt"} <= first.keys()
    assert first == second
    records = [json.loads((folder / "training.json").read_text()) for folder in (runs.first, runs.second)]
    assert [record.pop("minutes") >= 0 for record in records] == [True, True]
    assert records[0] == records[1]


def test_it_learns(runs: Runs) -> None:
    """The curve has two means of 50 losses. A model that learns nothing of what follows what comes no lower than the
    entropy of single tokens, 3 nats here: the best it can do is to know how frequent each is.
    """
    record = json.loads((runs.first / "training.json").read_text())
    first, second = record["loss_per_50_steps"]
    assert second < first < math.log(VOCAB_SIZE)
    text = (runs.first / "held_out.txt").read_text(encoding="utf-8")
    ids = tokenize(load_tokenizer(runs.first), text).tolist()
    entropy = math.fsum(math.log(len(ids) / count) * count / len(ids) for count in Counter(ids).values())
    assert record["held_out_perplexity"] < math.exp(entropy)


def test_what_it_wrote_is_a_model_folder_with_the_recorded_perplexity(runs: Runs) -> None:
    record = json.loads((runs.first / "training.json").read_text())
    model, tokenizer = load_model(runs.first, torch.float32), load_tokenizer(runs.first)
    text = (runs.first / "held_out.txt").read_text(encoding="utf-8")
    assert text == "\n\n".join(speech(index).strip() for index in (0, 20)) + "\n"
    ids = tokenize(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    assert len(ids) == record["held_out_tokens"]
    assert record["settings"]["steps"] == STEPS
    windows = TokenWindows(ids, WINDOW)
    losses = stream_losses(model, windows, batch_size=1).tolist()
    # The same calls, so the same logits to the bit, of which none is 20 nats large.
    tolerance = exp_tolerance(mean_tolerance(losses, loss_tolerance(torch.full((1, VOCAB_SIZE), 20.0))))
    assert perplexity(model, windows, batch_size=1) == pytest.approx(record["held_out_perplexity"], rel=2 * tolerance)


def test_other_texts_are_refused(texts: Path, tmp_path: Path) -> None:
    training, held_out = train.read_speeches(texts)
    assert held_out == [speech(0).strip(), speech(20).strip()]
    assert training == [speech(index).strip() for index in range(SPEECHES) if index not in (0, 20)]
    (tmp_path / "000.txt").write_text("Another one.", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds 1 speeches with sha256 .* expected"):
        train.read_speeches(tmp_path)


@pytest.mark.usefixtures("small")
def test_batches_are_windows_and_their_successors_each_once_an_epoch() -> None:
    ids = torch.arange(40 * WINDOW)
    generator = torch.Generator().manual_seed(3)
    pairs = list(train.batches(ids, 9, BATCH_SIZE, generator))
    starts = [int(row[0]) for inputs, _ in pairs for row in inputs]
    for inputs, targets in pairs:
        assert inputs.shape == (BATCH_SIZE, WINDOW)
        assert torch.equal(targets, inputs + 1)
        assert torch.equal(inputs, inputs[:, :1] + torch.arange(WINDOW))
    assert len(set(starts)) == 36
    assert len({start % WINDOW for start in starts}) == 1, "one offset for the epoch"
    again = list(train.batches(ids, 9, BATCH_SIZE, torch.Generator().manual_seed(3)))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(pairs, again, strict=True))
    assert starts != sorted(starts)


@pytest.mark.usefixtures("small")
def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    factors = [train.learning_rate_factor(step) for step in range(STEPS + 1)]
    assert factors[:10] == [(step + 1) / 10 for step in range(10)]
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5, abs=2.0**-50)
    assert factors[STEPS] == 0.0
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.usefixtures("small")
def test_held_out_perplexity_covers_every_token_whatever_the_last_window_holds() -> None:
    model = tiny_phi3(vocab_size=64, hidden_size=32, num_hidden_layers=1)
    for count in (2, WINDOW, WINDOW + 1, WINDOW + 2, 3 * WINDOW):
        ids = torch.arange(count) % 64
        losses = stream_losses(model, TokenWindows(ids, WINDOW), batch_size=1).tolist()
        tolerance = exp_tolerance(mean_tolerance(losses, loss_tolerance(torch.full((1, 64), 20.0))))
        expected = math.exp(math.fsum(losses) / (count - 1))
        assert train.held_out_perplexity(model, ids) == pytest.approx(expected, rel=2 * tolerance)
