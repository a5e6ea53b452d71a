"""Weights come from streams of their own and are spread as said."""

import math

import pytest
import torch

from tests.full_size.weights import (
    EMBEDDING_STD,
    GAINS,
    OUTLIER_COLUMNS,
    OUTLIER_FACTOR,
    ROW_SPREAD,
    Weight,
)

NAME = "model.layers.1.mlp.down_proj.weight"
ROWS, COLUMNS = 2048, 1024


def test_a_piece_is_the_same_every_time_and_unlike_any_other() -> None:
    weight = Weight(NAME, (4, COLUMNS), 2, seed=0)
    piece = weight.rows(0, 2)
    assert piece.dtype == torch.bfloat16
    assert torch.equal(piece, Weight(NAME, (4, COLUMNS), 2, seed=0).rows(0, 2))
    others = [
        weight.rows(2, 4),
        Weight(NAME, (4, COLUMNS), 2, seed=1).rows(0, 2),
        Weight(NAME.replace(".1.", ".0."), (4, COLUMNS), 2, seed=0).rows(0, 2),
    ]
    for other in others:
        pair = torch.stack([piece[0], other[0]]).double().clamp(-4 * weight.std, 4 * weight.std)
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(COLUMNS)


def test_rows_differ_in_scale_and_a_few_columns_stand_out() -> None:
    """Within five standard errors. The square of normal noise with a log-normal scale, in units of its mean, has the
    variance 3 e^(4 s^2) - 1, and e^(4 s^2) - 1 averaged over the many columns of a row.
    """
    both, only_rows = 3 * math.exp(4 * ROW_SPREAD**2) - 1, math.exp(4 * ROW_SPREAD**2) - 1
    weight = Weight(NAME, (ROWS, COLUMNS), 2, seed=0)
    squares = weight.rows(0, ROWS).double().square()
    columns = squares.mean(0)
    outliers = columns > columns.median() * OUTLIER_FACTOR
    assert int(outliers.sum()) == COLUMNS // OUTLIER_COLUMNS
    plain = squares[:, ~outliers]
    expected = weight.std**2 * math.exp(2 * ROW_SPREAD**2)
    assert float(plain.mean()) == pytest.approx(expected, rel=5 * math.sqrt(only_rows / ROWS))
    factor = math.sqrt(columns[outliers].mean() / plain.mean())
    assert factor == pytest.approx(OUTLIER_FACTOR, rel=2.5 * math.sqrt(both / ROWS))
    spread = plain.mean(1).sqrt().log().std()
    assert float(spread) == pytest.approx(ROW_SPREAD, rel=5 / math.sqrt(2 * ROWS) + 1 / math.sqrt(COLUMNS))


def test_standard_deviations_follow_from_kind_and_depth() -> None:
    first, last = GAINS["mlp.down_proj"]
    stds = [Weight(f"model.layers.{i}.mlp.down_proj.weight", (4, 100), 3, 0).std for i in range(3)]
    assert stds == pytest.approx([first / 10, (first + last) / 20, last / 10], rel=1e-12)
    assert Weight("model.embed_tokens.weight", (4, 100), 3, 0).std == EMBEDDING_STD
    assert Weight("lm_head.weight", (4, 100), 3, 0).std == GAINS["lm_head"][0] / 10


def test_norms_are_positive_and_around_one() -> None:
    norm = Weight("model.norm.weight", (3072,), 2, 0).rows(0, 3072)
    assert norm.shape == (3072,)
    assert float(norm.min()) > 0.3
    assert float(norm.float().log().mean()) == pytest.approx(0, abs=5 * 0.2 / math.sqrt(3072))
