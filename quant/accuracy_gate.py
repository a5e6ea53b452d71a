"""What the fixture `accuracy_gate` of the pytest plugin gives to a test: it fails the test, or records for later runs.

A test may call it as often as it likes. Where thresholds are written it goes on after each, with the verdict on what
was just recorded (a pass by construction), and the plugin skips it in the end: nothing has held that model to anything.
Budgets, which need no record, are judged all the same.

Refused: to write two models under one name in one run, where the last would stay. The same scheme of this library is
the same model, so several tests may ask for it.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from quant.errors import QuantError
from quant.evaluate.gates import GateResult, Verdict
from quant.gate_reports import power_of, recorded_lines, warn_of_poor_power
from quant.gated_model import NOT_GIVEN, GatedModel


@dataclass(frozen=True)
class Written:
    """A threshold that this run has written: of whose model, the verdict, and what to tell of it."""

    is_given: bool
    result: GateResult
    lines: list[str]


class Records:
    """What one run has written, and of what."""

    def __init__(self, gated_model: GatedModel) -> None:
        self.subject, self.path = str(gated_model), gated_model.thresholds.path
        self.written: dict[str, Written] = {}

    def record(self, gated_model: GatedModel, scheme: str, model: Any) -> GateResult:
        """Write the threshold of `scheme`.

        Raises:
            QuantError: this run has written another model's under that name; as `GatedModel.record`.
        """
        is_given = model is not NOT_GIVEN
        if before := self.written.get(scheme):
            if is_given or before.is_given:
                raise QuantError(
                    f"the threshold of {scheme} was written by another test of this run, which stays: give each model "
                    f"a name of its own, accuracy_gate('NAME', model=m)"
                )
            return before.result
        file, name = gated_model.thresholds, gated_model.name
        old = None
        replaced = "new"
        if file.has(name, scheme):
            try:
                old = file.read(name, scheme)
            except QuantError:
                replaced = "new, in the place of one that was damaged"
        result = gated_model.record(scheme, shlex.join(["pytest", *sys.argv[1:]]), model)
        lines = recorded_lines(scheme, old or replaced, file.read(name, scheme))
        self.written[scheme] = Written(is_given, result, lines)
        return result


class AccuracyGate:
    """The gate of one test.

    Args:
        gated_model: the model, its text and its thresholds.
        report: called with the figures of a model that passed.
        records: what this run writes; None where models are held to thresholds.
        recorded: called with the name of a threshold that the test would have been held to.
    """

    def __init__(
        self,
        gated_model: GatedModel,
        report: Callable[[str], object],
        records: Records | None,
        recorded: Callable[[str], object],
    ) -> None:
        self._gated_model, self._report = gated_model, report
        self._records, self._recorded = records, recorded

    def __call__(
        self,
        scheme: str,
        model: Any = NOT_GIVEN,
        max_perplexity_ratio: float | None = None,
        max_kl: float | None = None,
    ) -> GateResult:
        """Quantize the model, measure it, and fail unless the verdict is pass; returns it with its checks.

        accuracy_gate(name, model=m) holds a model that the test has quantized itself to the threshold of that name, or
        records it as that, once in a run. The name is free, `nf4-blocks-of-32` for instance: it is what the threshold
        is filed under.
        accuracy_gate(scheme, max_perplexity_ratio=1.01, max_kl=0.02) holds it to these limits instead of a threshold.
        """
        is_budget = max_perplexity_ratio is not None or max_kl is not None
        try:
            if is_budget:
                result = self._gated_model.judge_budget(scheme, model, max_perplexity_ratio, max_kl)
            elif self._records is not None:
                result = self._records.record(self._gated_model, scheme, model)
                self._recorded(scheme)
            else:
                result = self._gated_model.judge(scheme, model)
        except QuantError as error:
            result, message = None, str(error)
        else:
            message = f"{result}\n  of {self._gated_model}"
        if result is None or result.verdict is not Verdict.PASS:
            pytest.fail(message, pytrace=False)
        power = []
        if not is_budget and self._records is None:
            threshold = self._gated_model.thresholds.read(self._gated_model.name, scheme)
            power = [power_of(threshold)]
            warn_of_poor_power(scheme, threshold)
        self._report("\n".join([message, *power, ""]))
        return result
