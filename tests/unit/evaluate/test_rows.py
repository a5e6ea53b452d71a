"""Losses and divergences in pieces: the same bits as at once, and no float64 copy larger than a piece."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quant.evaluate import rows
from quant.evaluate.divergence import kl_divergence
from quant.evaluate.perplexity import token_losses
from tests.fakes import stream, table
from tests.strategies import bits

ROWS, VOCAB = 37, 500
BASELINE = table(ROWS, VOCAB, seed=5)
Measure = Callable[[Tensor], Tensor]
MEASURES: dict[str, Measure] = {
    "losses": lambda logits: token_losses(logits, stream(len(logits), VOCAB)),
    "divergence": lambda logits: kl_divergence(BASELINE[: len(logits)], logits),
}


class LargestCopy(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Elements of the largest float64 tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("limit", [1, VOCAB, 3 * VOCAB + 1, 36 * VOCAB, 37 * VOCAB])
def test_pieces_of_any_size_have_the_bits_of_the_whole(
    measure: Measure, dtype: torch.dtype, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = table(ROWS, VOCAB).to(dtype)
    expected = measure(logits)
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", limit)
    with LargestCopy() as largest:
        assert bits(measure(logits)) == bits(expected)
    assert max(2 * VOCAB, limit // VOCAB * VOCAB) <= largest.elements < 2 * max(2 * VOCAB, limit)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_no_rows_give_no_values(measure: Measure) -> None:
    assert measure(torch.zeros(0, VOCAB)).shape == (0,)


@pytest.mark.parametrize("limit", [1, 2 * VOCAB])
def test_no_row_is_left_over(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single row is summed in another order, where there are several threads."""
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", limit)
    lengths: list[int] = []

    def count(logits: Tensor) -> Tensor:
        lengths.append(len(logits))
        return logits.sum(dim=-1)

    rows.by_rows(count, torch.zeros(ROWS, VOCAB))
    assert lengths == [3] + 17 * [2]


def test_a_piece_of_a_large_vocabulary_is_a_few_rows() -> None:
    logits = torch.zeros(64, 152_064, dtype=torch.bfloat16)
    with LargestCopy() as largest:
        token_losses(logits, torch.zeros(64, dtype=torch.int64))
    assert 2 * 152_064 <= largest.elements < 2 * rows.CHUNK_ELEMENTS
