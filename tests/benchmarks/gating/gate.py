"""What one session is held to, and what came of it, which is found once.

A run is marked when it is stored, before pytest sets the exit code and prints: all of them need the same failures, and
not every run is stored. So the first to ask has them looked for, in all that has been timed, and the gate keeps them.
`plugin` says before anything runs what there is to compare with.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.gating import machine, stored
from tests.benchmarks.gating.failures import Failure, counted
from tests.benchmarks.gating.file import RATIOS, limits_of, read
from tests.benchmarks.gating.holding import Findings, hold
from tests.benchmarks.gating.ratios import file_of, measured_ratios, times_of
from tests.benchmarks.gating.stored import Run


class Gate:
    """What one session is compared with, and what came of it.

    key: of this machine; earlier: the stored runs to compare with; missing: why there is none although one was asked
    for; failures: None until they have been looked for; notes: what a reader should know.
    """

    def __init__(self, key: machine.Key) -> None:
        self.key = key
        self.earlier: list[Run] = []
        self.missing = ""
        self.checks: list[stored.TimeCheck] = []
        self.failures: list[Failure] | None = None
        self.notes: list[str] = []

    def everything(self) -> list[Failure]:
        """All for which the session fails; nothing before it was looked for."""
        if self.failures is None:
            return []
        first = f"{self.missing}\n  this run is stored: the next one is compared with it"
        return [*([Failure(first, "no stored run to compare with", 0)] if self.missing else []), *self.failures]

    def verdict(self) -> str:
        """One line that says what the session fails for; empty if it passes."""
        failures = self.everything()
        return f"benchmark gate: failed, {counted(failures)}" if failures else ""


GATE = pytest.StashKey[Gate]()


def find_failures(config: pytest.Config) -> Gate:
    """Compare and hold what was timed, once; a second call gives the same gate."""
    benchmarks: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    gate = config.stash.setdefault(GATE, Gate({}))
    if gate.failures is not None:
        return gate
    gate.failures = []
    run = this_run(benchmarks)
    if (gate.earlier or gate.missing) and not run["benchmarks"]:
        gate.failures.append(Failure("a comparison was asked for and no benchmark has run", "no benchmark has run", 0))
        gate.missing = ""
    for earlier in gate.earlier if run["benchmarks"] else []:
        gate.failures += stored.compare(run, earlier, gate.checks, dict(config.getoption("benchmark_compare_extra")))
    mode = config.getoption("benchmark_gate")
    if mode == "whole" or (mode == "ran" and run["benchmarks"]):
        found = hold_ratios(config, run, gate.key or machine.current_key())
        gate.failures += found.failures
        gate.notes += [*found.notes, found.held]
    return gate


def this_run(benchmarks: Any) -> Run:
    """What has been timed, as pytest-benchmark would store it. A round trip through JSON makes stored and new alike."""
    timed = [each.as_dict(include_data=False) for each in benchmarks.benchmarks if each and not each.has_error]
    run: Run = json.loads(json.dumps({"benchmarks": timed}, default=str))
    return run


def hold_ratios(config: pytest.Config, run: Run, key: machine.Key) -> Findings:
    """Hold the ratios of `run` to the portable limits and to those measured under its key."""
    path: Path = config.rootpath / (config.getoption("benchmark_ratios") or RATIOS)
    pairs = [pair for found in config.hook.pytest_benchmark_pairs(config=config) for pair in found]
    times, whole = times_of(run), config.getoption("benchmark_gate") == "whole"
    try:
        # Of a whole run all that there are pairs of, which on a machine with a GPU are not always those of tests/gpu.
        files = {file_of(pair.denominator) for pair in pairs} if whole else {file_of(test) for test in times}
        limits = limits_of(read(path), key, files)
    except ValueError as error:
        return Findings([Failure(str(error), f"{path.name} cannot be read", 0)], [], "no ratio held to a limit")
    findings = hold(times, pairs, limits, whole)
    if limits is None and measured_ratios(times, pairs):
        findings.notes.append(f"{path.name} has no limits of this machine: only what holds on every one was checked")
    return findings
