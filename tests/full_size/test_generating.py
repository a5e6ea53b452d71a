"""Seconds per token on a fake clock, and what a real tiny model is asked for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from quant.integrations.transformers import load_model
from tests.full_size import generating
from tests.full_size.conftest import SIZES
from tests.full_size.generating import measure_generating, random_prompt, token_seconds

SETUP, PREFILL_PER_TOKEN, STEP = 0.5, 0.25, 2.0


class Generator:
    """A model whose `generate` takes its time on a fake clock, decode steps longer and longer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.config = SimpleNamespace(vocab_size=200)
        self.calls: list[dict[str, Any]] = []

    def generate(self, prompt: Tensor, streamer: Any, **options: Any) -> None:
        self.calls.append({"length": prompt.shape[1], **options})
        self.now += SETUP
        streamer.put(prompt)
        self.now += PREFILL_PER_TOKEN * prompt.shape[1]
        streamer.put(prompt[0, :1])
        for index in range(1, options["max_new_tokens"]):
            self.now += STEP * index
            streamer.put(prompt[0, :1])
        streamer.end()


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    model = Generator()
    monkeypatch.setattr(generating, "time", SimpleNamespace(perf_counter=lambda: model.now))
    return model


def test_the_first_token_takes_the_prefill_and_each_other_its_step(generator: Generator) -> None:
    assert token_seconds(generator, random_prompt(generator, 4), 3) == [SETUP + 1.0, STEP, 2 * STEP]
    (call,) = generator.calls
    assert (call["min_new_tokens"], call["max_new_tokens"], call["do_sample"], call["num_beams"]) == (3, 3, False, 1)
    assert call["attention_mask"].tolist() == [[1, 1, 1, 1]]


def test_a_warm_up_and_then_both_prompts_in_turn(generator: Generator) -> None:
    result = measure_generating(generator, SIZES, repeats=2)
    assert [(call["length"], call["max_new_tokens"]) for call in generator.calls] == [
        (5, 2), (5, 4), (9, 1), (5, 4), (9, 1),
    ]  # fmt: skip
    assert result == {
        "prefill_seconds": {5: [SETUP + 1.25] * 2, 9: [SETUP + 2.25] * 2},
        "decode_seconds": [[STEP, 2 * STEP, 3 * STEP]] * 2,
    }


def test_a_real_model_generates_every_token_asked_for(checkpoint: Path) -> None:
    model = load_model(checkpoint, torch.bfloat16)
    seconds = token_seconds(model, random_prompt(model, 5), 6)
    assert len(seconds) == 6
    assert min(seconds) > 0


def test_prompts_are_fixed_and_within_the_vocabulary() -> None:
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=100))
    prompt = random_prompt(model, 1000)
    assert prompt.shape == (1, 1000)
    assert (int(prompt.min()), int(prompt.max())) == (3, 35)
    assert torch.equal(prompt, random_prompt(model, 1000))
