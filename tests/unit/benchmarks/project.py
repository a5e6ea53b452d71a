"""A project with made-up benchmarks, which pytest runs by a clock that is set."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.benchmarks.gating import machine
from tests.benchmarks.gating.file import machine_record, write
from tests.benchmarks.gating.ratios import Series
from tests.unit.benchmarks.runs import KEY

CONFTEST = """
from tests.benchmarks.gating.ratios import Pair

pytest_plugins = ["tests.benchmarks.gating.plugin"]


def pytest_benchmark_generate_machine_info():
    return {}


def pytest_benchmark_generate_commit_info():
    return {"id": "c0ffee", "dirty": False, "project": "made up"}


def pytest_benchmark_pairs():
    return [Pair("a / b", "test_speed.py::test_speed[a]", "test_speed.py::test_speed[b]", "all")]
"""
CLOCK = """
time = 0.0


def now():
    return time


def advance(seconds):
    global time
    time += seconds
"""
TEST = """
import json, pathlib
import clock, pytest

SPEEDS = json.loads(pathlib.Path(__file__).with_name("speeds.json").read_text())


@pytest.mark.parametrize("name", SPEEDS)
def test_speed(name, benchmark):
    if SPEEDS[name] is None:
        pytest.skip("not here")
    benchmark.extra_info["tokens_per_second"] = 8 / SPEEDS[name]
    benchmark.pedantic(clock.advance, args=(SPEEDS[name],), rounds=3)


def test_other():
    pass
"""
SPEEDS = {"a": 1.0, "b": 2.0}
COMPARE = ("--benchmark-only", "--benchmark-compare", "--benchmark-compare-fail=median:10%")


class Project:
    """A folder with benchmarks that take as long as they are told to."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester, self.monkeypatch, self.folder = pytester, monkeypatch, pytester.path
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        pytester.syspathinsert()
        pytester.makeconftest(CONFTEST)
        pytester.makeini("[pytest]")
        pytester.makepyfile(clock=CLOCK, test_speed=TEST)

    def pytest(self, *options: str, speeds: Mapping[str, float | None] | None = None, **key: Any) -> tuple[int, str]:
        """Exit code and what was printed, with these seconds, on the machine `KEY` but for `key`."""
        (self.folder / "speeds.json").write_text(json.dumps(speeds or SPEEDS), encoding="utf-8")
        with self.monkeypatch.context() as patch:
            patch.setattr(machine, "current_key", lambda: {**KEY, **key})
            done = self.pytester.runpytest_inprocess("--benchmark-timer=clock.now", *options)
        printed = f"{done.stderr}\n{done.stdout}"
        assert "Traceback" not in printed
        assert "INTERNALERROR" not in printed
        return int(done.ret), printed

    def stored(self) -> list[dict[str, Any]]:
        """The stored runs, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(".benchmarks/*/*/*.json"))]


def with_limits(project: Project) -> Project:
    """Limits of a / b around 0.5, measured on the machine `KEY`."""
    series = Series((0.5, 0.501, 0.499, 0.5, 0.5) * 2, "all", "test_speed.py::test_speed[b]")
    record = machine_record(KEY, {"runs": 10}, {"a / b": series})
    (project.folder / "tests" / "benchmarks").mkdir(parents=True)
    write(project.folder / "tests" / "benchmarks" / "ratios.json", record)
    return project
