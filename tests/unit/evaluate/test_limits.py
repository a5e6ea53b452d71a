"""What a model can take: positions and token ids, of plain and of nested configurations."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quant.errors import QuantError
from quant.evaluate.limits import check_positions, check_vocabulary, position_limit

PLAIN = SimpleNamespace(max_position_embeddings=8, vocab_size=10)
NESTED = SimpleNamespace(get_text_config=lambda: PLAIN)
both = pytest.mark.parametrize("config", [PLAIN, NESTED], ids=["plain", "nested"])


@both
def test_as_many_tokens_as_positions_fit_and_one_more_does_not(config: Any) -> None:
    assert position_limit(config) == 8
    check_positions(config, 8, "--window")
    with pytest.raises(QuantError, match="--window 9 exceeds the model's 8 positions: use 8 or less"):
        check_positions(config, 9, "--window")


@both
def test_the_largest_id_is_one_less_than_the_vocabulary(config: Any) -> None:
    check_vocabulary(config, torch.tensor([3, 9]), 9)
    for ids, bos in (([3, 10], None), ([3], 10)):
        with pytest.raises(QuantError, match="token id 10 is outside the model's vocabulary of 10: use the tokenizer"):
            check_vocabulary(config, torch.tensor(ids), bos)


@pytest.mark.parametrize("config", [None, SimpleNamespace()], ids=["none", "empty"])
def test_without_limits_everything_fits(config: Any) -> None:
    check_positions(config, 10**9, "--window")
    check_vocabulary(config, torch.tensor([10**9]))
