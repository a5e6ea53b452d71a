"""The losses of single tokens and what becomes of them: dtypes of the logits, sums that keep their digits, infinity."""

import math

import pytest
import torch

from quant.errors import QuantError
from quant.evaluate.perplexity import perplexity_of, token_losses
from tests.fakes import ROUNDING, exp_tolerance, log_sum_exp, loss_tolerance, mean_tolerance, stream, table


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_are_computed_in_float64_from_logits_of_any_dtype(dtype: torch.dtype) -> None:
    """The logits are rounded to the dtype first, so the oracle sees the same numbers and any rounding after that would
    show.
    """
    logits = table(6, 300, spread=8.0).to(dtype)
    targets = stream(6, 300)
    expected = [
        log_sum_exp(row) - row[int(target)] for row, target in zip(logits.double().tolist(), targets, strict=True)
    ]
    assert token_losses(logits, targets).tolist() == pytest.approx(expected, abs=loss_tolerance(logits))


def test_rows_of_minus_infinity_are_an_error() -> None:
    with pytest.raises(QuantError, match="NaN or infinite"):
        token_losses(torch.full((1, 4), -math.inf), torch.tensor([0]))


def test_perplexity_that_overflows_is_infinite() -> None:
    largest = math.log(1.797e308)
    assert perplexity_of(torch.full((5,), largest, dtype=torch.float64)) == pytest.approx(
        1.797e308, rel=exp_tolerance(mean_tolerance([largest] * 5))
    )
    assert perplexity_of(torch.full((5,), 710.0, dtype=torch.float64)) == math.inf
    assert perplexity_of(torch.tensor([1.0, math.inf], dtype=torch.float64)) == math.inf


def test_no_losses_are_an_error() -> None:
    with pytest.raises(QuantError, match="no scored tokens"):
        perplexity_of(torch.empty(0, dtype=torch.float64))


def test_sums_over_many_tokens_keep_their_digits() -> None:
    """10^6 losses of 0.1: summed one by one in float32 they lose four digits."""
    losses = torch.full((1_000_000,), 0.1, dtype=torch.float64)
    assert perplexity_of(losses) == pytest.approx(math.exp(0.1), rel=exp_tolerance(1e6 * 0.1 * ROUNDING))
