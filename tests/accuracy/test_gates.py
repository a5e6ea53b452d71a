"""Every scheme of the embedded model is held to its threshold, planted faults are not passed, and the gates raise as
few false alarms as they say.

`pytest tests/accuracy/test_gates.py --update-thresholds` writes thresholds.json anew, `python -m tests.accuracy.power`
docs/accuracy-gates.md.
"""

from collections.abc import Callable
from typing import Any

import pytest

from quant import dequantize
from quant.evaluate import recording
from quant.evaluate.gates import Check, GateResult, Verdict
from quant.gated_model import GatedModel
from quant.variants import OURS
from tests.accuracy.planted import FIRST, quantized
from tests.accuracy.power import DOCUMENT, RUNS, caught, power_section, with_bound
from tests.accuracy.simulation import simulate


def test_each_scheme_is_what_it_was(quant_scheme: str, accuracy_gate: Callable[..., GateResult]) -> None:
    assert len(accuracy_gate(quant_scheme).checks) == 5


def test_every_scheme_has_a_threshold(gated_model: GatedModel) -> None:
    for scheme in OURS:
        assert gated_model.thresholds.read(gated_model.name, scheme).provenance["command"].startswith("pytest")


@pytest.mark.parametrize(
    ("plant", "scheme", "red"), FIRST, ids=[f"{plant.__name__}-{scheme}" for plant, scheme, _ in FIRST]
)
def test_a_planted_fault_is_a_regression(
    plant: Callable[[str], Any], scheme: str, red: set[str], gated_model: GatedModel
) -> None:
    result = gated_model.judge(scheme, plant(scheme))
    assert result.verdict is Verdict.REGRESSION, result
    assert red <= {check.name for check in result.checks if check.verdict is Verdict.REGRESSION}


def test_float_layers_of_the_same_weights_are_only_other_layers(gated_model: GatedModel) -> None:
    """Dequantized, a model computes the same: only what its layers are tells it from the recorded one."""
    checks = gated_model.judge("nf4", dequantize(quantized("nf4"))).checks
    assert [check.name for check in checks if check.verdict is not Verdict.PASS] == ["layers", "floats"]


@pytest.mark.parametrize(("shared", "phi"), [(0.0, 0.0), (1.0, 0.6)], ids=["alone", "with-the-text"])
def test_false_alarms_and_misses_are_as_rare_as_stated(
    monkeypatch: pytest.MonkeyPatch, shared: float, phi: float
) -> None:
    """At a rate of 5 %, which 1500 runs can tell from others: 75 expected of either kind if the bounds were tight, and
    34 more are four standard errors. docs/accuracy-gates.md has the rate that is used, in more runs.
    """
    monkeypatch.setattr(recording, "FALSE_ALARM", 0.05)
    rates = simulate(1500, seed=1, shared=shared, phi=phi)
    assert rates.false_alarms <= 109 / 1500
    # From below too: a gate that lets everything pass misses all, one that passes nothing alarms always. A worsening
    # by the margin passes where its estimate falls short by q s, on one side of two: half of 5 %.
    assert 15 / 1500 <= rates.missed <= 60 / 1500


def test_the_document_states_the_thresholds_power(gated_model: GatedModel) -> None:
    assert DOCUMENT.read_text(encoding="utf-8").startswith(power_section(gated_model))


def test_the_table_of_planted_faults_counts_regressions_only() -> None:
    def result(*verdicts: Verdict) -> GateResult:
        return GateResult("nf4", tuple(Check(name, verdict, "") for name, verdict in zip("ab", verdicts, strict=True)))

    results = [
        ("moved", result(Verdict.PASS, Verdict.REGRESSION)),
        ("left", result(Verdict.INCONCLUSIVE, Verdict.REGRESSION)),
    ]
    assert caught(results).splitlines()[0::2] == [
        "| planted fault | a | b |",
        "| moved, nf4 | - | regression |",
        "| **seen, of 2** | **0** | **2** |",
    ]


def test_no_event_in_n_runs_rules_out_the_rate_that_would_show_one_with_95_percent() -> None:
    """(1 - rate)^n = 0.05."""
    assert with_bound(0) == f"0, rate below {1 - 0.05 ** (1 / RUNS):.1e}"
