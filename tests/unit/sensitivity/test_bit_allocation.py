"""The steps that a plan is chosen from, by hand and against all plans of four layers; and budgets as they are typed."""

import dataclasses
import itertools
import math
import random

import pytest

from quant import QuantError
from quant.evaluate import statistics
from quant.evaluate.paired import PairedAccuracy
from quant.evaluate.statistics import Estimate
from quant.schemes import NF4, W8A16, Scheme
from quant.sensitivity import Sensitivity
from quant.sensitivity.bit_allocation import check_budget, steps_of

SCHEMES = [W8A16(), NF4(32)]
NAMES = ("layers.0", "layers.1", "lm_head")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


def alone(name: str, scheme: Scheme, loss: float, before: int, after: int) -> Sensitivity:
    """A measurement that says so."""
    ratio = Estimate(math.exp(loss), None)
    return Sensitivity(name, (name,), scheme, PairedAccuracy(30.0, 0.0, 0.0, ratio, ratio, 1.0), before, after)


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.999])
def test_a_budget_may_be_less_than_the_perplexity_itself(budget: float) -> None:
    check_budget(budget)


@pytest.mark.parametrize("budget", [-0.01, 1.0, 1.01, math.nan, math.inf])
def test_other_budgets_are_refused(budget: float) -> None:
    with pytest.raises(QuantError, match="% of the perplexity is none: use 0 % to less than 100 %"):
        check_budget(budget)


def test_steps_save_the_most_bytes_per_loss_first() -> None:
    """By hand: 3000 bytes for 0.001 nats, 1000 for 0.002 more; 1500 for 0.001; and 1000 for nothing."""
    steps = steps_of(
        [
            alone("a", W8A16(), 0.001, 4000, 1000),
            alone("a", NF4(), 0.003, 4000, 0),
            alone("b", W8A16(), 0.002, 2000, 500),
            alone("b", NF4(), 0.001, 2000, 500),
            alone("c", NF4(), -0.004, 1000, 0),
        ]
    )
    assert [(step.layer, step.scheme, step.bytes_saved) for step in steps] == [
        ("c", NF4(), 1000),
        ("a", W8A16(), 3000),
        ("b", NF4(), 1500),
        ("a", NF4(), 1000),
    ]
    assert [step.loss_added for step in steps] == pytest.approx([0, 0.001, 0.001, 0.002], rel=1e-9)


def test_a_scheme_that_saves_nothing_is_no_step() -> None:
    assert steps_of([alone("a", W8A16(), -1.0, 100, 100), alone("a", NF4(), 0.1, 100, 101)]) == []


def test_a_choice_that_is_larger_and_worse_is_passed_over() -> None:
    steps = steps_of([alone("a", W8A16(), 0.005, 4000, 1000), alone("a", NF4(), 0.002, 4000, 500)])
    assert [step.scheme for step in steps] == [NF4()]


def test_a_scheme_that_breaks_the_model_is_no_choice() -> None:
    broken = dataclasses.replace(alone("a", NF4(), 0.0, 4000, 0).accuracy, ratio=Estimate(math.inf, None))
    measured = [
        dataclasses.replace(alone("a", scheme, 0.0, 4000, after), accuracy=broken)
        for scheme, after in ((W8A16(), 1000), (NF4(), 0))
    ]
    assert steps_of(measured) == []
    steps = steps_of([alone("a", W8A16(), 0.001, 4000, 1000), measured[1]])
    assert [step.scheme for step in steps] == [W8A16()]


@pytest.mark.parametrize("seed", range(5))
def test_no_plan_of_less_loss_is_smaller(seed: int) -> None:
    """Held to all plans of four layers, at every plan on the way."""
    source = random.Random(seed)
    table: dict[str, list[tuple[int, float]]] = {}
    measured = []
    for name in "abcd":
        before = source.randint(100, 10_000)
        choices = [(scheme, source.uniform(0, 0.01), source.randint(1, before - 1)) for scheme in (W8A16(), NF4())]
        measured += [alone(name, scheme, loss, before, after) for scheme, loss, after in choices]
        table[name] = [(before, 0.0), *((after, loss) for _, loss, after in choices)]
    total, loss = sum(points[0][0] for points in table.values()), 0.0
    plans = [
        (sum(nbytes for nbytes, _ in plan), sum(added for _, added in plan))
        for plan in itertools.product(*table.values())
    ]
    for step in steps_of(measured):
        total, loss = total - step.bytes_saved, loss + step.loss_added
        assert min(nbytes for nbytes, added in plans if added <= loss + 1e-12) == total
    assert total == min(nbytes for nbytes, _ in plans)
