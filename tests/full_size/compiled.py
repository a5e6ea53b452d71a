"""Decoding with a static cache and the whole forward compiled, as `generate` itself does it when asked to.

`generate` compiles decode steps only, not the prefill. On CPUs it does so only when made to, and tells in a warning
when it does not; so that it did is checked by torch's own count of graphs.
"""

import time
from typing import Any

import torch

from tests.full_size.generating import random_prompt, token_seconds
from tests.full_size.variants import Sizes


def measure_compiled(model: Any, sizes: Sizes, repeats: int, backend: str = "inductor") -> dict[str, Any]:
    """Decode `repeats` times after a first call, which compiles.

    Returns first_call_seconds: with compiling; decode_seconds: [repeats][new_tokens - 1]; graphs: how many were
    compiled (of a model with a sliding window two: its cache counts tokens in a Python integer, which torch takes for a
    constant until it has changed once); recompiled: how many of them in calls after the first.

    Raises:
        RuntimeError: nothing was compiled, or not the whole forward at once.
    """
    from torch._dynamo.utils import counters  # noqa: PLC0415 - seconds and 75 MB that no other part needs
    from transformers import CompileConfig  # noqa: PLC0415

    config = CompileConfig(fullgraph=True, mode="default", backend=backend)
    config._compile_all_devices = True
    options = {"cache_implementation": "static", "compile_config": config}
    prompt = random_prompt(model, sizes.prompt)
    torch.compiler.reset()
    counters.clear()
    began = time.perf_counter()
    token_seconds(model, prompt, sizes.new_tokens, **options)
    first = time.perf_counter() - began
    graphs = counters["stats"]["unique_graphs"]
    decode = [token_seconds(model, prompt, sizes.new_tokens, **options)[1:] for _ in range(repeats)]
    breaks = sum(counters["graph_break"].values())
    if not graphs or breaks:
        raise RuntimeError(f"decoding was compiled into {graphs} graphs with {breaks} breaks, not as a whole")
    total = counters["stats"]["unique_graphs"]
    return {"first_call_seconds": first, "decode_seconds": decode, "graphs": total, "recompiled": total - graphs}
