"""Generation with the embedded model: 32 tokens after a prompt of 64, every scheme beside the float model.

A small model spends most of a step outside its products: what is gained here is less than with a larger one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from quant import reference_model
from quant.evaluate.generation import held_memory, peak_memory
from quant.integrations.transformers import load_tokenizer, tokenize
from quant.variants import BASELINE, VARIANTS, load_variant
from tests.benchmarks.conftest import Medians, times

PROMPT_TOKENS, NEW_TOKENS = 64, 32


@pytest.fixture(scope="module")
def prompt() -> Tensor:
    """Token ids [1, PROMPT_TOKENS] from the held-out text."""
    ids = tokenize(load_tokenizer(reference_model.FOLDER), reference_model.held_out_text()[:1000])
    return ids[None, :PROMPT_TOKENS]


@pytest.mark.parametrize("scheme", VARIANTS)
def test_generate(
    scheme: str, prompt: Tensor, benchmark: BenchmarkFixture, timed: Callable[..., Any], medians: Medians
) -> None:
    new_tokens = NEW_TOKENS if times(benchmark) else 2
    before = held_memory()
    model = load_variant(scheme, reference_model.FOLDER, torch.float32).model
    options = {"do_sample": False, "min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
    group = f"generate {NEW_TOKENS} tokens"

    def generate() -> Any:
        return model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)

    output = timed(group, scheme, generate)
    assert output.shape == (1, PROMPT_TOKENS + new_tokens)
    if times(benchmark):
        with peak_memory(above=before) as memory:
            generate()
        benchmark.extra_info["peak_bytes"] = memory.cpu_bytes
        benchmark.extra_info["tokens_per_second"] = new_tokens / medians[group, scheme]
        if (group, BASELINE) in medians:
            benchmark.extra_info["vs_baseline"] = medians[group, BASELINE] / medians[group, scheme]
