"""KL divergence and top-1 agreement: by hand, against loops in float64, at the edges, and with logits kept or computed
again.
"""

import math

import pytest
import torch

from quant.evaluate.divergence import kl_divergence, top1_agreement
from tests.fakes import expected_kl, kl_tolerance, table

VOCAB = 7
PHI_3_VOCAB = 32064


def test_direction_is_from_the_baseline_to_the_model() -> None:
    """KL((0.9, 0.1) || (0.5, 0.5)) by hand; the other way round it would be 0.5108."""
    p, q = (torch.tensor([row], dtype=torch.float64).log() for row in ([0.9, 0.1], [0.5, 0.5]))
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    backward = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert kl_divergence(p, q).tolist() == pytest.approx([forward], abs=kl_tolerance(p, q))
    assert kl_divergence(q, p).tolist() == pytest.approx([backward], abs=kl_tolerance(q, p))
    assert forward == pytest.approx(0.3681, abs=1e-4)
    assert backward == pytest.approx(0.5108, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocab_size", [1, 2, 128, PHI_3_VOCAB])
def test_equal_logits_have_divergence_exactly_zero(vocab_size: int, dtype: torch.dtype) -> None:
    for spread in (0.01, 2.0, 60.0):
        logits = table(4, vocab_size, spread=spread).to(dtype)
        assert kl_divergence(logits, logits.clone()).tolist() == [0.0] * 4


@pytest.mark.parametrize("vocab_size", [2, 128, PHI_3_VOCAB])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 20.0])
def test_divergence_equals_the_loops(vocab_size: int, spread: float) -> None:
    p, q = table(2, vocab_size, 1, spread), table(2, vocab_size, 2, spread)
    expected = [expected_kl(a, b) for a, b in zip(p.double().tolist(), q.double().tolist(), strict=True)]
    assert kl_divergence(p, q).tolist() == pytest.approx(expected, abs=kl_tolerance(p, q))
    assert min(expected) > 100 * kl_tolerance(p, q)


def test_a_range_of_sixty_nats_keeps_its_tail() -> None:
    """Both are sure of token 0; what differs is the order of the others, at probabilities down to e^-60, which 16 bits
    cannot hold.
    """
    ladder = torch.arange(128).double() * (60 / 127)
    p = torch.cat([-ladder, -ladder]).view(2, 128)
    q = p.clone()
    q[:, 1:] = q[:, 1:].flip(1)
    expected = [expected_kl(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    assert kl_divergence(p, q).tolist() == pytest.approx(expected, abs=kl_tolerance(p, q))
    assert expected[0] > 10


def test_a_tiny_divergence_has_no_floor_and_no_bias() -> None:
    """Moving the logit of a token of probability p by d changes KL by p (1 - p) d^2 / 2 to second order: 2^-20 squared
    here, not 0.
    """
    p = torch.zeros(1, 4, dtype=torch.float64)
    q = p.clone()
    q[0, 0] = 2.0**-20
    # The third order is a d-th of the second, and the rounding of log-probabilities of 1.4 is below 1e-15.
    assert kl_divergence(p, q).item() == pytest.approx(0.25 * 0.75 * 2.0**-40 / 2, rel=1e-2, abs=1e-15)
    assert kl_divergence(p, q).item() == pytest.approx(kl_divergence(q, p).item(), rel=1e-2, abs=1e-15)


def test_divergence_is_never_negative() -> None:
    """Nearly equal rows, where rounding decides the sign of the sum."""
    p = table(500, 64, spread=5.0).double()
    assert float(kl_divergence(p, p * (1 + 2.0**-52)).min()) >= 0.0
    assert float(kl_divergence(p, p + 2.0**-50).min()) >= 0.0


@pytest.mark.parametrize("shift", [-32.0, 0.5, 1024.0])
def test_a_constant_added_to_the_logits_changes_nothing(shift: float) -> None:
    """The logits are multiples of 2^-10 below 8, so the sums with the shift are exact and only log-softmax rounds
    differently.
    """
    p, q = (torch.round(table(8, 50, seed, 1.0) * 1024) / 1024 for seed in (1, 2))
    expected = [expected_kl(a, b) for a, b in zip(p.double().tolist(), q.double().tolist(), strict=True)]
    tolerance = kl_tolerance(p + shift, q - shift)
    assert kl_divergence(p + shift, q - shift).tolist() == pytest.approx(expected, abs=tolerance)
    assert kl_divergence(p + shift, p).tolist() == pytest.approx([0.0] * 8, abs=kl_tolerance(p + shift, p))


@pytest.mark.parametrize(
    ("baseline", "model", "agree"),
    [
        ([1.0, 3.0, 2.0], [0.0, 9.0, 8.0], True),
        ([1.0, 3.0, 2.0], [0.0, 8.0, 9.0], False),
        ([3.0, 3.0, 1.0], [5.0, 4.0, 4.0], True),
        ([3.0, 3.0, 1.0], [4.0, 5.0, 4.0], False),
        ([1.0, 3.0, 3.0], [1.0, 3.0, 3.0], True),
        ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], True),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], False),
    ],
)
def test_top1_compares_the_largest_logits_and_ties_go_to_the_lowest_token(
    baseline: list[float], model: list[float], agree: bool
) -> None:
    assert top1_agreement(torch.tensor([baseline]), torch.tensor([model])).tolist() == [agree]
    assert top1_agreement(torch.tensor([model]), torch.tensor([baseline])).tolist() == [agree]


@pytest.mark.parametrize("vocab_size", [2, 65, PHI_3_VOCAB])
def test_ties_are_broken_alike_at_any_vocabulary(vocab_size: int) -> None:
    tied = torch.zeros(3, vocab_size)
    tied[1, vocab_size - 2 :] = 1.0
    single = torch.zeros(3, vocab_size)
    single[0, 0] = single[1, vocab_size - 2] = single[2, vocab_size - 1] = 1.0
    assert top1_agreement(tied, single).tolist() == [True, True, False]


def test_tokens_that_both_models_rule_out_add_nothing() -> None:
    """Models mask padded vocabulary entries with -inf: p = q = 0 there, and 0 log(0/0) counts 0 as everywhere."""
    p, q = table(3, VOCAB, 1), table(3, VOCAB, 2)
    masked = [torch.cat([logits, torch.full((3, 2), -math.inf)], dim=1) for logits in (p, q)]
    assert kl_divergence(*masked).tolist() == pytest.approx(kl_divergence(p, q).tolist(), abs=kl_tolerance(p, q))
