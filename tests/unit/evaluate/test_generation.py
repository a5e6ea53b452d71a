"""Timing of generation on a fake clock, and what is refused before anything runs. Peaks of memory: `test_peak_memory`;
the tokens: `test_greedy_tokens`.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant.errors import QuantError
from quant.evaluate import generation
from quant.evaluate.generation import measure_generation

PREFILL_SECONDS, DECODE_SECONDS = 2.0, 0.25


class Generator(nn.Module):
    """A model whose `generate` counts up from the prompt and takes its time on a fake clock, more in every call by
    `slower`.
    """

    def __init__(self, slower: float = 0.0, positions: int | None = 64) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.config = SimpleNamespace(max_position_embeddings=positions)
        self.now, self.slower = 0.0, slower
        self.calls: list[dict[str, Any]] = []

    def generate(self, inputs: Tensor, **options: Any) -> Tensor:
        self.calls.append(
            {"prompt": inputs.tolist(), "training": self.training, "mode": torch.is_inference_mode_enabled(), **options}
        )
        count = options["max_new_tokens"]
        self.now += PREFILL_SECONDS + (count - 1) * DECODE_SECONDS + self.slower * len(self.calls)
        return torch.cat([inputs, inputs[:, -1:] + torch.arange(1, count + 1)], dim=1)


def measured(monkeypatch: pytest.MonkeyPatch, model: Generator, **options: Any) -> generation.Generation:
    monkeypatch.setattr(generation, "time", SimpleNamespace(perf_counter=lambda: model.now))
    return measure_generation(model, torch.tensor([5, 6, 7, 8]), **options)


def test_speeds_follow_from_one_token_and_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    result = measured(monkeypatch, Generator(), new_tokens=9)
    assert (result.prompt_tokens, result.new_tokens) == (4, 9)
    assert result.seconds == PREFILL_SECONDS + 8 * DECODE_SECONDS
    assert result.prefill_tokens_per_second == 4 / PREFILL_SECONDS
    assert result.decode_tokens_per_second == 1 / DECODE_SECONDS
    assert result.tokens == tuple(range(9, 18))


def test_one_warm_up_and_then_both_lengths_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Generator()
    measured(monkeypatch, model, new_tokens=9, repeats=3)
    assert [call["max_new_tokens"] for call in model.calls] == [2, 1, 9, 1, 9, 1, 9]
    for call in model.calls:
        assert call["prompt"] == [[5, 6, 7, 8]]
        assert (call["do_sample"], call["num_beams"]) == (False, 1)
        assert call["min_new_tokens"] == call["max_new_tokens"]
        assert call["attention_mask"].tolist() == [[1, 1, 1, 1]]
        assert (call["training"], call["mode"]) == (False, True)


@pytest.mark.parametrize(("seconds", "calls"), [(0, 3), (11, 3), (13, 4), (1e9, generation.MOST_REPEATS)])
def test_short_calls_are_repeated_more_often(monkeypatch: pytest.MonkeyPatch, seconds: float, calls: int) -> None:
    """Each call for nine tokens takes four seconds."""
    model = Generator()
    measured(monkeypatch, model, new_tokens=9, repeats=3, seconds=seconds)
    assert [call["max_new_tokens"] for call in model.calls[1:]] == [1, 9] * calls


def test_times_are_medians_of_the_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call k takes k seconds more. Without the warm-up, the calls for nine tokens are the third, fifth and seventh:
    median 5, whatever the last one takes.
    """

    class Stumbling(Generator):
        def generate(self, inputs: Tensor, **options: Any) -> Tensor:
            output = super().generate(inputs, **options)
            self.now += 100 * (len(self.calls) > 5)
            return output

    result = measured(monkeypatch, Stumbling(slower=1.0), new_tokens=9, repeats=3)
    assert result.seconds == PREFILL_SECONDS + 8 * DECODE_SECONDS + 5
    assert result.prefill_tokens_per_second == 4 / (PREFILL_SECONDS + 4)


def test_a_whole_that_took_no_longer_than_the_prefill_has_no_speed_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for slower in (-0.3, -DECODE_SECONDS):  # shorter than the prefill, and exactly as long
        assert measured(monkeypatch, Generator(slower), new_tokens=2).decode_tokens_per_second is None


def test_two_new_tokens_have_the_speed_of_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, Generator(), new_tokens=2).decode_tokens_per_second == 1 / DECODE_SECONDS


def test_one_new_token_has_no_decode_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, Generator(slower=0.1), new_tokens=1).decode_tokens_per_second is None
    model = Generator()
    result = measured(monkeypatch, model, new_tokens=1)
    assert result.prefill_tokens_per_second == 4 / PREFILL_SECONDS
    assert result.decode_tokens_per_second is None
    assert result.tokens == (9,)
    assert {call["max_new_tokens"] for call in model.calls} == {1}


def test_the_training_flag_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Generator().train()
    measured(monkeypatch, model, new_tokens=2)
    assert model.training


@pytest.mark.parametrize(
    ("prompt", "new_tokens", "message"),
    [
        (4, 0, "at least 1 new token, got 4 and 0"),
        (0, 4, "needs a prompt.*got 0 and 4"),
        (4, 61, "prompt and new tokens: 65 exceeds the model's 64 positions: use 64 or less"),
    ],
)
def test_impossible_requests_are_refused_before_anything_runs(prompt: int, new_tokens: int, message: str) -> None:
    model = Generator()
    with pytest.raises(QuantError, match=message):
        measure_generation(model, torch.arange(prompt), new_tokens)
    assert not model.calls


def test_a_token_without_an_embedding_is_refused_before_anything_runs() -> None:
    model = Generator()
    model.config.vocab_size = 8
    measure_generation(model, torch.tensor([7]), 1)
    model.calls.clear()
    with pytest.raises(QuantError, match="token id 8 is outside the model's vocabulary of 8"):
        measure_generation(model, torch.tensor([3, 8]), 1)
    assert not model.calls


def test_all_positions_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, Generator(), new_tokens=60).new_tokens == 60
    assert measured(monkeypatch, Generator(positions=None), new_tokens=61).new_tokens == 61


def test_timing_waits_for_the_devices_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU computes on after the call has returned."""
    model = Generator()
    events: list[int | str] = []
    devices = [torch.device("cuda", 1), torch.device("cuda", 3)]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(device.index))
    monkeypatch.setattr(generation, "accelerators", lambda _: devices)

    def generate(ids: Tensor, **_: object) -> Tensor:
        events.append("generate")
        return torch.cat([ids, ids], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    measure_generation(model, torch.tensor([5]), new_tokens=1, repeats=1)
    once = [1, 3, "generate", 1, 3]
    assert events == ["generate", *once, *once]


def test_at_least_one_repeat_is_needed() -> None:
    with pytest.raises(QuantError, match="at least 1 repeat, got 0"):
        measure_generation(Generator(), torch.tensor([5]), new_tokens=1, repeats=0)
