"""A plan within a budget: held to all plans there are, chosen and held on different windows, and refused where none is.

The model's losses are made up here, so that what each layer costs, and what they cost together, is known.
"""

import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quant
from quant import QuantError
from quant.errors import BrokenLogitsError
from quant.evaluate import statistics
from quant.evaluate.divergence import Measurement
from quant.evaluate.windows import TokenWindows
from quant.modules import QuantizedLinear
from quant.schemes import NF4, W8A16, Scheme
from quant.sensitivity import Sensitivities, measure_sensitivities
from quant.sensitivity.proposal import check_budget, check_windows, propose
from tests.models import Layers, seeded, snapshot
from tests.unit.evaluate.made import BASELINE, FINGERPRINT, TOKENS, WINDOWS, measurement, noise

SCHEMES = [W8A16(), NF4(32)]
NAMES = ("layers.0", "layers.1", "lm_head")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


class Invented:
    """A baseline whose comparisons come from `cost`: the layers of a model and their schemes -> nats per token."""

    def __init__(self, cost: Callable[[dict[str, Scheme]], float], spread: float = 0.0) -> None:
        self.cost, self.spread = cost, spread
        self.windows = TokenWindows(torch.arange(WINDOWS * TOKENS + 1), TOKENS)
        self.measurement, self.losses = BASELINE, BASELINE.losses
        self.seen: list[dict[str, Scheme]] = []
        self.changes: dict[str, Any] = {}

    def compare(self, model: nn.Module) -> Measurement:
        found = {name: layer.scheme for name, layer in model.named_modules() if isinstance(layer, QuantizedLinear)}
        self.seen.append(found)
        excess: Tensor = self.cost(found) + self.spread * len(found) * noise(3)
        return measurement(BASELINE.losses + excess, excess.abs(), **self.changes)


def summed(costs: dict[Scheme, float]) -> Callable[[dict[str, Scheme]], float]:
    return lambda found: sum(costs[scheme] for scheme in found.values())


def solve(baseline: Any, budget: float, held_to: Any = None) -> tuple[Any, nn.Module]:
    """The proposal for a model of three layers, and the model; held to a text of the same costs if to no other."""
    model = seeded(Layers)
    measured = measure_sensitivities("tiny", model, baseline, SCHEMES, include=["*", "lm_head"])
    held_to = Invented(baseline.cost, baseline.spread) if held_to is None else held_to
    return propose(model, baseline, held_to, measured, budget), model


def test_a_budget_for_all_takes_the_smallest_schemes_and_says_where_it_comes_from() -> None:
    proposal, model = solve(Invented(summed({W8A16(): 0.0001, NF4(32): 0.002})), 0.5)
    assert dict(proposal.plan.layers) == dict.fromkeys(NAMES, NF4(32))
    assert list(proposal.plan.layers) == list(NAMES)
    report = quant.conversion_report(quant.quantize(model, proposal.plan))
    found = proposal.provenance
    assert (found.bytes_before, found.bytes_after) == (report.bytes_before, report.bytes_after)
    assert (found.model, found.budget, found.tried, found.looks) == ("tiny", 0.5, 1, 1)
    assert found.fingerprint["tokens_sha256"] == FINGERPRINT.tokens_sha256
    assert found.predicted_ratio == pytest.approx(math.exp(0.006), rel=1e-9)
    assert found.measured_ratio == pytest.approx(math.exp(0.006), rel=1e-9)
    assert found.measured_ratio_ci == pytest.approx((math.exp(0.006), math.exp(0.006)), rel=1e-9)


def test_between_them_it_mixes() -> None:
    """0.0003 for W8A16 everywhere, 0.0019 more for each layer in NF4, of which two fit 0.005 nats."""
    proposal, _ = solve(Invented(summed({W8A16(): 0.0001, NF4(32): 0.002})), math.expm1(0.005))
    schemes = list(proposal.plan.layers.values())
    assert (schemes.count(NF4(32)), schemes.count(W8A16())) == (2, 1)


@pytest.mark.parametrize(("cost", "found"), [(0.0, [W8A16()] * 3), (1e-9, None)], ids=["of nothing", "of anything"])
def test_no_budget_takes_what_costs_nothing_or_refuses(cost: float, found: list[Scheme] | None) -> None:
    proposal, model = solve(Invented(summed({W8A16(): cost, NF4(32): 0.002})), 0.0)
    assert (None if proposal is None else list(proposal.plan.layers.values())) == found
    assert snapshot(model)[1] == snapshot(seeded(Layers))[1]


Costs = dict[tuple[str, Scheme], float]


def costing(costs: Costs, together: float = 1.0) -> Callable[[dict[str, Scheme]], float]:
    """What layers cost adds up, times `together` where several are quantized."""
    return lambda found: sum(costs[item] for item in found.items()) * (together if len(found) > 1 else 1)


Plan = tuple[dict[str, Scheme], int, float]


def all_plans(cost: Callable[[dict[str, Scheme]], float]) -> list[Plan]:
    """Every plan for the model of three layers: its schemes, the bytes of its weights, and what it costs."""
    choices = [[(None, before), *after.items()] for before, after in sizes().values()]
    plans = []
    for plan in itertools.product(*choices):
        found = {name: scheme for name, (scheme, _) in zip(NAMES, plan, strict=True) if scheme is not None}
        plans.append((found, sum(nbytes for _, nbytes in plan), cost(found) if found else 0.0))
    return plans


@functools.cache
def sizes() -> dict[str, tuple[int, dict[Scheme, int]]]:
    """Bytes of each layer's weight, and under each scheme."""
    baseline: Any = Invented(lambda found: 0.0)
    layers = measure_sensitivities("tiny", seeded(Layers), baseline, SCHEMES, include=["*", "lm_head"]).layers
    before = {one.name: one.bytes_before for one in layers}
    return {name: (before[name], {one.scheme: one.bytes_after for one in layers if one.name == name}) for name in NAMES}


@pytest.mark.parametrize("together", [1.0, 1.7, 0.6], ids=["adds-up", "more-together", "less-together"])
@pytest.mark.parametrize("seed", range(8))
def test_no_plan_that_fits_is_smaller(seed: int, together: float) -> None:
    """Held to all 27 plans; where layers lose less together than alone, to those that are predicted to fit."""
    source = random.Random(seed)
    costs: Costs = {}
    for name in NAMES:
        costs[name, W8A16()] = source.uniform(0, 0.002)
        costs[name, NF4(32)] = costs[name, W8A16()] + source.uniform(0, 0.004)
    cost = costing(costs, together)
    proposal, _ = solve(Invented(cost), math.expm1(0.005))
    held = costing(costs, max(1.0, together))
    fitting = [nbytes for found, nbytes, _ in all_plans(cost) if (held(found) if found else 0.0) <= 0.005]
    assert proposal.provenance.bytes_after == min(fitting)
    chosen = {name: scheme for name, scheme in proposal.plan.layers.items() if scheme is not None}
    assert proposal.provenance.measured_ratio == pytest.approx(math.exp(cost(chosen)), rel=1e-9)
    assert (chosen, min(fitting)) in [(found, nbytes) for found, nbytes, _ in all_plans(cost)]


def test_plans_that_lose_least_for_their_bytes_are_tried_between_too_small_and_large_enough() -> None:
    """Layers in NF4 cost three times as much beside each other: of the plan that fits by prediction, with two of them,
    one gets more bytes.
    """

    def cost(found: dict[str, Scheme]) -> float:
        total = summed({W8A16(): 0.0001, NF4(32): 0.002})(found)
        return 3 * total if list(found.values()).count(NF4(32)) > 1 else total

    baseline = Invented(cost)
    proposal, _ = solve(baseline, math.expm1(0.005))
    schemes = list(proposal.plan.layers.values())
    assert (schemes.count(NF4(32)), schemes.count(W8A16())) == (1, 2)
    tried = baseline.seen[-proposal.provenance.tried :]
    assert list(tried[0].values()).count(NF4(32)) == 2
    assert len({tuple(plan.items()) for plan in tried}) == len(tried) > 2


@pytest.mark.parametrize("most", [0, 1, 4])
def test_plans_are_measured_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """None fits but a single layer's; without a look at plans between them there is none."""
    monkeypatch.setattr("quant.sensitivity.proposal.HALVINGS", most)
    costs: Costs = {(name, W8A16()): 1.0 for name in NAMES} | {(name, NF4(32)): 0.001 for name in NAMES}
    baseline = Invented(costing(costs, together=100.0))
    proposal, _ = solve(baseline, math.expm1(0.005))
    assert (proposal is None) == (most < 2)
    plans = [found for found in baseline.seen if len(found) > 1 and W8A16() not in found.values()]
    assert len(plans) - 2 <= 1 + most  # besides the kind of layers and all together


def test_a_plan_that_is_predicted_not_to_fit_is_not_tried() -> None:
    """Layers cost half as much together as alone: the plan would fit by measuring, which is noise on a short text."""
    costs: Costs = {(name, W8A16()): 1.0 for name in NAMES}
    costs |= {(name, NF4(32)): 0.002 for name in NAMES}
    baseline = Invented(costing(costs, together=0.5))
    proposal, _ = solve(baseline, math.expm1(0.005))
    assert list(proposal.plan.layers.values()).count(NF4(32)) == 2
    assert proposal.provenance.predicted_ratio == pytest.approx(math.exp(0.004), rel=1e-9)
    assert proposal.provenance.tried == 1


def test_a_plan_is_held_to_windows_that_had_no_part_in_its_choice() -> None:
    """What they cost there is what is told; the choice sees nothing of it."""
    baseline = Invented(summed({W8A16(): 0.0001, NF4(32): 0.001}))
    held_to = Invented(summed({W8A16(): 0.0001, NF4(32): 0.0024}))
    held_to.measurement = dataclasses.replace(
        BASELINE, fingerprint=dataclasses.replace(FINGERPRINT, tokens_sha256="1" * 64)
    )
    held_to.changes = {"tokens_sha256": "1" * 64}
    proposal, _ = solve(baseline, math.expm1(0.005), held_to)
    found = proposal.provenance
    assert list(proposal.plan.layers.values()).count(NF4(32)) == 2
    assert [list(schemes.values()).count(NF4(32)) for schemes in held_to.seen] == [3, 2]
    assert (found.tried, found.looks) == (1, 2)
    assert found.measured_ratio == pytest.approx(math.exp(2 * 0.0024 + 0.0001), rel=1e-9)
    assert found.predicted_ratio == pytest.approx(math.exp(2 * 0.001 + 0.0001), rel=1e-9)
    assert (found.fingerprint["tokens_sha256"], found.held_to["tokens_sha256"]) == ("0" * 64, "1" * 64)


def test_a_plan_that_fits_only_where_it_was_chosen_is_none() -> None:
    held_to = Invented(summed({W8A16(): 0.1, NF4(32): 0.1}))
    proposal, _ = solve(Invented(summed({W8A16(): 1e-6, NF4(32): 2e-6})), 0.01, held_to)
    assert proposal is None
    assert held_to.seen[0] == dict.fromkeys(NAMES, NF4(32))
    of_plans = {tuple(found.items()): nbytes for found, nbytes, _ in all_plans(held_to.cost)}
    totals = [of_plans[tuple(found.items())] for found in held_to.seen]
    assert totals == sorted(totals)
    assert 3 <= len(set(totals)) <= len(totals) <= 16


@pytest.mark.parametrize("where", ["alone", "together", "held to"])
def test_a_plan_that_breaks_the_model_is_stepped_back_from(where: str) -> None:
    """NF4 makes the logits NaN: in any layer, in two, or on the windows that the plan is held to."""

    def breaking(found: dict[str, Scheme]) -> float:
        count = list(found.values()).count(NF4(32))
        if count > (0 if where == "alone" else 1):
            raise BrokenLogitsError("NaN")
        return cost(found)

    cost = summed({W8A16(): 1e-6, NF4(32): 2e-6})
    baseline = Invented(cost if where == "held to" else breaking)
    proposal, model = solve(baseline, 0.01, Invented(breaking))
    assert list(proposal.plan.layers.values()).count(NF4(32)) == (0 if where == "alone" else 1)
    assert snapshot(model)[1] == snapshot(seeded(Layers))[1]


def test_it_is_the_end_of_the_interval_that_is_held() -> None:
    """The mean fits in every plan; the interval of all three layers does not."""
    budget = math.expm1(0.0005)
    proposal, _ = solve(Invented(summed({W8A16(): 0.0001, NF4(32): 0.0001}), spread=0.001), budget)
    low, high = proposal.provenance.measured_ratio_ci
    assert proposal.provenance.tried > 1
    assert low < proposal.provenance.measured_ratio < high <= 1 + budget
    assert proposal.provenance.predicted_ratio <= 1 + budget


def test_layers_that_were_not_measured_stay_float() -> None:
    model, baseline = seeded(Layers), Invented(summed({W8A16(): 0.0, NF4(32): 0.002}))
    measured = measure_sensitivities("tiny", model, baseline, SCHEMES)  # type: ignore[arg-type]
    proposal = propose(model, baseline, baseline, measured, 0.5)  # type: ignore[arg-type]
    assert proposal is not None
    assert proposal.plan.layers["lm_head"] is None
    assert isinstance(measured, Sensitivities)


def test_a_text_too_short_for_an_interval_is_refused() -> None:
    check_windows(TokenWindows(torch.arange(41), 2))
    with pytest.raises(QuantError, match="for which 19 windows are too few, it takes 20: pass a longer text"):
        check_windows(TokenWindows(torch.arange(39), 2))


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.999])
def test_a_budget_may_be_less_than_the_perplexity_itself(budget: float) -> None:
    check_budget(budget)


@pytest.mark.parametrize("budget", [-0.01, 1.0, 1.01, math.nan, math.inf])
def test_other_budgets_are_refused(budget: float) -> None:
    with pytest.raises(QuantError, match="% of the perplexity is none: use 0 % to less than 100 %"):
        check_budget(budget)
