"""The tokens that are generated while generation is timed: the greedy ones of a real tiny model."""

import math
from typing import Any

import torch

from quant.evaluate.generation import measure_generation
from tests.models import tiny_phi3


def phi3() -> Any:
    """The end of text is token 0, as in the embedded model."""
    return tiny_phi3(vocab_size=64, hidden_size=32, num_hidden_layers=1, eos_token_id=0)


def test_a_model_that_wants_to_stop_generates_all_the_same() -> None:
    """A head of zeros ties all tokens and the first, id 0, is the end of text; that is ruled out until the last, so id
    1 comes.
    """
    model = phi3()
    model.lm_head.weight.data.zero_()
    assert measure_generation(model, torch.tensor([3, 4]), 6, repeats=1).tokens == (1,) * 6


def test_tokens_are_the_greedy_ones() -> None:
    model = phi3()
    model.lm_head.weight.data.mul_(50)
    result = measure_generation(model, torch.tensor([3, 4, 5]), 5, repeats=1)
    ids = [3, 4, 5]
    with torch.inference_mode():
        for _ in range(5):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            logits[0] = -math.inf
            best, second = logits.topk(2).values.tolist()
            # The cache rounds differently: float32 logits of this size agree to about 1e-5.
            assert best - second > 1e-3
            ids.append(int(logits.argmax()))
    assert result.tokens == tuple(ids[3:])
    assert result.seconds > 0
    assert result.prefill_tokens_per_second > 0
