"""Seconds per token of `model.generate`, greedy and with its own cache, as whoever calls it waits for them.

A streamer takes the time as each token arrives. The first one comes after the prefill (and what `generate` does before
it, a few milliseconds), the others after one decode step each.
"""

import itertools
import time
from typing import Any

import torch
from torch import Tensor

from tests.full_size.variants import Sizes


class Clock:
    """A streamer that notes when tokens come."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, tokens: Tensor) -> None:
        """Called with the prompt, then with each token."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Called after the last one."""


def random_prompt(model: Any, length: int) -> Tensor:
    """Token ids [1, length], always the same ones for one vocabulary."""
    generator = torch.Generator().manual_seed(length)
    return torch.randint(3, model.config.vocab_size - 64, (1, length), generator=generator)


def token_seconds(
    model: Any, prompt: Tensor, new_tokens: int, clock: Clock | None = None, **options: Any
) -> list[float]:
    """Seconds until the first token, and between each and the next: [new_tokens].

    Args:
        prompt: token ids [1, length]; clock: to take the time with; options: passed on to `generate`.
    """
    clock = clock or Clock()
    began = time.perf_counter()
    model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        num_beams=1,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        streamer=clock,
        **options,
    )
    times = [began, *clock.times[1:]]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def measure_generating(model: Any, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """After a warm-up, `repeats` times: the short prompt and decoding after it, then the long prompt.

    Returns prefill_seconds: prompt's length -> [repeats]; decode_seconds: [repeats][new_tokens - 1].
    """
    short, long = random_prompt(model, sizes.prompt), random_prompt(model, sizes.long_prompt)
    token_seconds(model, short, 2)
    prefill: dict[int, list[float]] = {sizes.prompt: [], sizes.long_prompt: []}
    decode = []
    for _ in range(repeats):
        first, *others = token_seconds(model, short, sizes.new_tokens)
        prefill[sizes.prompt].append(first)
        decode.append(others)
        prefill[sizes.long_prompt] += token_seconds(model, long, 1)
    return {"prefill_seconds": prefill, "decode_seconds": decode}
