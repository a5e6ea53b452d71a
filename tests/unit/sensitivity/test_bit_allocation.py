"""Plans for losses that are known, held to all plans that there are."""

import dataclasses
import itertools
import math
import random

import pytest

from quant.evaluate.paired import PairedAccuracy
from quant.evaluate.statistics import Estimate
from quant.schemes import NF4, W8A16, Scheme
from quant.sensitivity import Sensitivity, bit_allocation
from quant.sensitivity.bit_allocation import Choice, Choices, Frontier, choices_of

SCHEMES = (W8A16(), NF4(32), NF4())


def alone(name: str, scheme: Scheme, loss: float, before: int, after: int) -> Sensitivity:
    """A measurement that says so."""
    ratio = Estimate(math.exp(loss), None)
    accuracy = PairedAccuracy(30.0, 0.0, 0.0, ratio, Estimate(0.125, None), 1.0)
    return Sensitivity(name, (name,), scheme, accuracy, before, after)


def made(seed: int, layers: int = 5) -> Choices:
    """Bytes and losses at random, three layers of one size and the others of any; a scheme may cost nothing."""
    source = random.Random(seed)
    choices: Choices = {}
    for index in range(layers):
        before = 4096 if index < 3 else source.randint(100, 10_000)
        choices[f"layers.{index}"] = [
            Choice(None, before, 0.0),
            Choice(W8A16(), before // 4 + 8, max(0.0, source.uniform(-0.001, 0.004))),
            Choice(NF4(), before // 8 + 16, source.uniform(0, 0.01)),
        ]
    return choices


def every_plan(choices: Choices) -> list[tuple[int, float]]:
    """Bytes and loss of each."""
    plans = itertools.product(*choices.values())
    return [(sum(one.nbytes for one in plan), math.fsum(one.loss for one in plan)) for plan in plans]


@pytest.mark.parametrize("seed", range(8))
def test_no_plan_within_the_loss_is_smaller_and_none_as_small_loses_less(seed: int) -> None:
    choices = made(seed)
    plans = every_plan(choices)
    most = max(loss for _, loss in plans)
    for part in (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 1.01):
        found = Frontier(choices).smallest(part * most)
        nbytes = min(nbytes for nbytes, loss in plans if loss <= part * most)
        assert found.nbytes == nbytes
        assert found.loss == pytest.approx(min(loss for size, loss in plans if size == nbytes), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("seed", range(8))
def test_no_plan_within_the_bytes_loses_less(seed: int) -> None:
    choices = made(seed)
    plans = every_plan(choices)
    low, high = min(plans)[0], max(plans)[0]
    for part in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0):
        most = low + int(part * (high - low))
        found = Frontier(choices).within(most)
        assert found.nbytes <= most
        assert found.loss == pytest.approx(min(loss for size, loss in plans if size <= most), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("seed", range(2))
def test_of_more_plans_than_can_be_counted_it_is_the_smallest_to_the_byte(seed: int) -> None:
    """4^60 plans, by dynamic programming over losses, whole numbers here, where the package goes over bytes."""
    source = random.Random(seed)
    limit = 5000
    choices: Choices = {}
    for index in range(60):
        before = source.randint(2000, 5000)
        sizes = [(before // part + source.randint(0, 99), source.randint(1, 250)) for part in (2, 4, 7)]
        choices[f"layers.{index}"] = [
            Choice(None, before, 0.0),
            *(Choice(scheme, nbytes, loss) for scheme, (nbytes, loss) in zip(SCHEMES, sizes, strict=True)),
        ]
    least = [0] * (limit + 1)
    for several in choices.values():
        least = [
            min(least[loss - int(one.loss)] + one.nbytes for one in several if one.loss <= loss)
            for loss in range(limit + 1)
        ]
    found = Frontier(choices).smallest(limit * (1 + 1e-5))
    assert (found.nbytes, found.loss <= limit) == (least[limit], True)


def test_a_plan_says_what_it_takes_and_loses() -> None:
    choices = made(3)
    found = Frontier(choices).smallest(0.01)
    taken = [
        next(one for one in several if one.scheme == dict(found.schemes).get(name)) for name, several in choices.items()
    ]
    assert found.nbytes == sum(one.nbytes for one in taken)
    assert found.loss == math.fsum(one.loss for one in taken) <= 0.01
    assert [name for name, _ in found.schemes] == [name for name in choices if name in dict(found.schemes)]


def test_of_choices_that_cost_nothing_the_smaller_divergence_is_taken() -> None:
    choices = {name: [Choice(None, 100, 0.0), Choice(W8A16(), 50, 0.0, kl)] for name, kl in (("a", 1e-4), ("b", 1e-6))}
    assert Frontier(choices).within(150).schemes == (("b", W8A16()),)
    choices["b"][1] = Choice(W8A16(), 50, 1e-9, 1e-6)  # a millionth of the other's divergence is less
    assert Frontier(choices).within(150).schemes == (("a", W8A16()),)


def test_divergences_do_not_move_the_limit_of_the_loss() -> None:
    of_a, of_b = Choice(NF4(), 50, 0.0099, 10.0), Choice(NF4(), 50, 0.0105, 0.0)
    choices = {"a": [Choice(None, 100, 0.0), of_a], "b": [Choice(None, 100, 0.0), of_b]}
    assert Frontier(choices).smallest(0.01).schemes == (("a", NF4()),)
    assert Frontier(choices).smallest(0.0098).schemes == ()


def test_of_choices_that_cost_the_same_the_smaller_is_taken() -> None:
    choices = {name: [Choice(None, 100, 0.0), Choice(NF4(), size, 0.001)] for name, size in (("a", 50), ("b", 40))}
    choices["c"] = [Choice(None, 100, 0.0), Choice(NF4(), 45, 0.001)]
    assert Frontier(choices).within(250).schemes == (("b", NF4()),)


def test_two_plans_whose_losses_differ_by_a_millionth_are_told_apart() -> None:
    choices = {name: [Choice(None, 100, 0.0), Choice(NF4(), 50, loss)] for name, loss in (("a", 1.000001), ("b", 1.0))}
    assert Frontier(choices).within(150).schemes == (("b", NF4()),)


def test_where_bytes_are_too_many_to_count_each_the_plan_is_off_by_a_thousandth_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """5 layers in 10,000 units, each rounded by half a unit at most."""
    monkeypatch.setattr(bit_allocation, "CELLS", 50_000)
    for seed in range(8):
        choices = {
            name: [dataclasses.replace(one, nbytes=999_983 * one.nbytes + index) for index, one in enumerate(several)]
            for name, several in made(seed).items()
        }
        plans = every_plan(choices)
        low, high = min(plans)[0], max(plans)[0]
        most = 0.4 * max(loss for _, loss in plans)
        found = Frontier(choices).smallest(most)
        assert found.loss <= most
        assert 0 <= found.nbytes - min(nbytes for nbytes, loss in plans if loss <= most) <= 0.001 * (high - low)


def test_billions_of_bytes_are_held_to_the_byte() -> None:
    choices = {f"layers.{index}": [Choice(None, 10**9, 0.0), Choice(NF4(), 10**9 - 1, 0.001)] for index in range(9)}
    assert Frontier(choices).within(9 * 10**9).schemes == ()
    assert len(Frontier(choices).within(9 * 10**9 - 1).schemes) == 1
    assert len(Frontier(choices).within(9 * 10**9 - 9).schemes) == 9


def test_measurements_leave_float_and_every_scheme_to_choose_from() -> None:
    """A gain is noise and counts as no loss; what makes the model impossible is no choice."""
    broken = dataclasses.replace(alone("a", NF4(), 0.0, 4000, 0).accuracy, ratio=Estimate(math.inf, None))
    impossible = dataclasses.replace(broken, ratio=Estimate(1.0, None), kl=Estimate(math.inf, None))
    choices = choices_of(
        [
            alone("a", W8A16(), 0.001, 4000, 1000),
            alone("b", W8A16(), -0.004, 2000, 500),
            dataclasses.replace(alone("a", NF4(), 0.0, 4000, 600), accuracy=broken),
            alone("b", NF4(), 0.002, 2000, 300),
            dataclasses.replace(alone("b", NF4(32), 0.0, 2000, 350), accuracy=impossible),
        ]
    )
    assert {name: [(one.scheme, one.nbytes, one.kl) for one in several] for name, several in choices.items()} == {
        "a": [(None, 4000, 0.0), (W8A16(), 1000, 0.125)],
        "b": [(None, 2000, 0.0), (W8A16(), 500, 0.125), (NF4(), 300, 0.125)],
    }
    losses = [one.loss for several in choices.values() for one in several]
    assert losses == pytest.approx([0.0, 0.001, 0.0, 0.0, 0.002], rel=1e-9)


def test_a_scheme_that_saves_nothing_or_breaks_the_model_leaves_the_layer_float() -> None:
    assert Frontier({"a": [Choice(None, 100, 0.0), Choice(W8A16(), 101, 0.0)]}).smallest(0.1).schemes == ()
    assert Frontier({"a": [Choice(None, 100, 0.0)]}).smallest(0.1).nbytes == 100
