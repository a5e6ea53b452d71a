"""The pytest plugin: options, and where pytest and pytest-benchmark hand over.

A comparison that was asked for (`--benchmark-compare`) is with the latest run of the same machine key that was not
itself refused, or with the named one, and fails where it cannot take place: before anything runs, unless this run is
stored and so is the first of its key. Ratios are held whenever timings are taken (`--benchmark-gate`). What fails is
listed in the summary and counted in the last line, and the exit code is 1.

The pairs come from the hook `pytest_benchmark_pairs`, which a conftest.py implements.
"""

import argparse
import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import get_machine_id

from tests.benchmarks.gating import hookspec, machine, stored
from tests.benchmarks.gating.failures import lines
from tests.benchmarks.gating.file import RATIOS
from tests.benchmarks.gating.gate import GATE, Gate, find_failures


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspec)


def extra_limit(text: str) -> tuple[str, float]:
    """'tokens_per_second:5%' -> ('tokens_per_second', 5.0)."""
    found = re.fullmatch(r"(\w+):(\d+(?:\.\d+)?)%", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not like tokens_per_second:5%")
    if found[1] not in stored.HIGHER_IS_BETTER | stored.LOWER_IS_BETTER:
        known = ", ".join(sorted(stored.HIGHER_IS_BETTER | stored.LOWER_IS_BETTER))
        raise argparse.ArgumentTypeError(f"{found[1]!r} is none of {known}")
    return found[1], float(found[2])


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark")
    group.addoption(
        "--benchmark-compare-extra",
        metavar="NAME:PERCENT%",
        type=extra_limit,
        nargs="+",
        action="extend",
        default=[],
        help="With --benchmark-compare: fail where this number of extra_info got worse by more.",
    )
    group.addoption(
        "--benchmark-gate",
        choices=("ran", "whole", "off"),
        default="ran",
        help="Where timings are taken: hold the ratios of what ran to their limits (ran, the default), also fail where "
        "one is missing (whole), or only take timings (off).",
    )
    group.addoption("--benchmark-ratios", metavar="FILE", type=Path, help=f"The limits of ratios, default {RATIOS}.")


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def saves(config: pytest.Config) -> bool:
    return bool(config.option.benchmark_save or config.option.benchmark_autosave)


def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-benchmark opens its storage: a folder for this machine's key, and there the run to compare with.

    Raises:
        pytest.UsageError: if a comparison cannot take place.
    """
    option = config.option
    compares = bool(option.benchmark_compare)
    if is_worker(config) or option.help:
        return
    if (option.benchmark_compare_fail or option.benchmark_compare_extra) and not compares:
        raise pytest.UsageError("--benchmark-compare-fail and --benchmark-compare-extra need --benchmark-compare")
    if compares and (option.benchmark_skip or (option.benchmark_disable and not option.benchmark_enable)):
        raise pytest.UsageError("--benchmark-compare was asked for and benchmarks are switched off")
    if not compares and not saves(config):
        return
    gate = config.stash[GATE] = Gate(machine.current_key())
    storage = file_storage(option.benchmark_storage)
    if storage is None:
        if option.benchmark_compare is True:
            raise pytest.UsageError("the latest run of this machine's key is found in file storage only: name a run")
        return
    folder = storage / machine.folder_name(gate.key)
    option.benchmark_storage = f"file://{folder}"
    if option.benchmark_compare is True:
        try:
            found = stored.latest(folder / get_machine_id())  # type: ignore[no-untyped-call]
            others = [] if found else stored.other_machines(storage, gate.key)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
        if found is None:
            gate.missing = "\n  ".join([f"no stored run of this machine's key in {folder}", *others])
            if not saves(config):
                raise pytest.UsageError(gate.missing + "\nstore one with --benchmark-autosave")
        option.benchmark_compare = str(found[0]) if found else []
    elif compares and not matches(folder, option.benchmark_compare):
        raise pytest.UsageError(f"no stored run in {folder} matches {option.benchmark_compare!r}")


def file_storage(storage: str) -> Path | None:
    """The folder of `--benchmark-storage`, which needs no file:// for pytest-benchmark; None for another kind."""
    scheme, separator, path = storage.partition("://")
    if not separator:
        return Path(storage)
    return Path(path) if scheme == "file" else None


def matches(folder: Path, name: str) -> list[Path]:
    """The files that pytest-benchmark takes `name` for, in a `folder` of one key."""
    storage: Any = FileStorage
    found: list[Path] = storage(folder, logger=None, default_machine_id=get_machine_id()).query(name)  # type: ignore[no-untyped-call]
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Refuse a stored run of another key.

    Raises:
        pytest.UsageError: naming the fields that differ.
    """
    gate = config.stash[GATE]
    differing = machine.differences(gate.key, stored.machine_key(compared_benchmark))
    if differing:
        raise pytest.UsageError(f"the stored run is of another machine: {'; '.join(differing)}")
    gate.earlier.append(json.loads(json.dumps(compared_benchmark)))
    # What else differs, such as the clock rate of the moment, is no reason to warn, which pytest-benchmark does next.
    compared_benchmark["machine_info"] = machine_info


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Put the key in the record, and what else the times may come from."""
    gate = config.stash.get(GATE, None)
    machine_info["quant"] = gate.key if gate else machine.current_key()
    machine_info["software"] = machine.current_software()


def pytest_sessionstart(session: pytest.Session) -> None:
    """After pytest-benchmark has loaded what it compares with. Its own check of times ends in a traceback and knows
    nothing of what is missing: it is left nothing to check.
    """
    config = session.config
    benchmarks: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    if not is_worker(config):
        config.pluginmanager.register(NothingToStore())
    gate = config.stash.get(GATE, None)
    if gate is None:
        return
    if benchmarks.compare and not gate.earlier:
        raise pytest.UsageError(f"no stored run could be read that matches {benchmarks.compare!r}")
    if benchmarks.disabled and (benchmarks.compare or gate.missing):
        raise pytest.UsageError("--benchmark-compare was asked for and benchmarks are switched off (by xdist: -n 0)")
    gate.checks, benchmarks.compare_fail = list(benchmarks.compare_fail or []), []


class NothingToStore:
    """A plugin of its own, because it goes before pytest-benchmark at the end of a session, where the rest comes after.
    That warns where it has nothing to store, which is a traceback where warnings are errors.
    """

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        benchmarks: Any = session.config.pluginmanager.get_plugin("pytest-benchmark")
        stores = benchmarks.save or benchmarks.autosave or benchmarks.json
        if stores and not benchmarks.disabled and not benchmarks.benchmarks:
            benchmarks.save = benchmarks.autosave = benchmarks.json = None
            gate = session.config.stash.setdefault(GATE, Gate({}))
            gate.notes.append("nothing was stored: no benchmark has run")
        return (yield)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Mark a run that fails, so that no later one is compared with it. The first of its key is no such run."""
    session: Any = config.pluginmanager.get_plugin("session")
    failures = find_failures(config).failures or []
    output_json["refused"] = [*lines(failures), *(["tests failed"] if session.testsfailed else [])]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The exit code, after pytest-benchmark has stored the run."""
    config = session.config
    benchmarks: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    if is_worker(config) or benchmarks is None or config.option.collectonly:
        return
    if benchmarks.disabled and GATE not in config.stash and config.getoption("benchmark_gate") != "whole":
        return
    passes = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if find_failures(config).everything() and passes:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What failed, and what a reader should know."""
    gate = config.stash.get(GATE, None)
    if gate is None or not (gate.everything() or gate.notes):
        return
    terminalreporter.section("benchmark gate")
    for line in lines(gate.everything()):
        terminalreporter.write_line(f"FAILED {line}", red=True)
    for line in gate.notes:
        terminalreporter.write_line(line)


@pytest.hookimpl(specname="pytest_sessionfinish", wrapper=True, tryfirst=True)
def pytest_benchmark_gate_verdict(session: pytest.Session) -> Generator[None, object, object]:
    """After pytest's own last line, which counts the tests that passed and says nothing of the gate."""
    result = yield
    gate = session.config.stash.get(GATE, None)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if gate is not None and reporter is not None and gate.verdict():
        reporter.write_line(gate.verdict(), red=True)
    return result
