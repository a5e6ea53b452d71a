"""A scheme that is registered without figures stops the collection; one with figures gets every test of the battery."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quant.schemes import INT4, SCHEMES
from quant.variants import VARIANTS
from tests import measured
from tests.contract import registered
from tests.contract.registered import registered_schemes, schemes_with_thresholds

ROOT = Path(__file__).parents[2]
BATTERY = "tests/contract/battery"
PROGRAM = f"""
import json, pytest
from quant.schemes import NF4, SCHEMES
SCHEMES["wide"] = NF4(128)
from tests import measured
from tests.contract import registered

class Items:
    def __init__(self):
        self.of = {{"wide": [], "w8a16": []}}
    def pytest_itemcollected(self, item):
        scheme = item.callspec.params.get("scheme") if hasattr(item, "callspec") else None
        for name, items in self.of.items():
            if scheme == SCHEMES[name]:
                items.append(item.nodeid.partition("[")[0])

def run(*arguments):
    items = Items()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--assert=plain", *arguments], plugins=[items])
    return int(code), items.of["wide"], items.of["w8a16"]

refused = run("--collect-only", "{BATTERY}")
for table in (measured.EFFECTS["phi3"], measured.EFFECTS["gpt2"], measured.DECODING):
    table["nf4-128"] = table["nf4-64"]
for table in (measured.VARIANT_KL, registered.GATED):
    table["wide"] = table["nf4"]
accepted = run("--collect-only", "{BATTERY}")
passed = run("{BATTERY}/test_state.py", "-k", "wide")
print("\\n" + json.dumps([refused, accepted, passed]))
"""


def test_a_new_scheme_is_refused_without_figures_and_gets_every_test_with_them() -> None:
    """In a process of its own, where a scheme is registered before anything is collected; some of its tests are run."""
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, accepted, passed = json.loads(done.stdout.splitlines()[-1])
    modules = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / BATTERY).glob("test_*.py"))
    assert len(modules) > 5
    assert refused == [pytest.ExitCode.INTERRUPTED, [], []], done.stdout
    message = "without figures: wide. Measure what it costs with python -m tests.measured"
    assert done.stdout.count(message) == len(modules)
    code, of_the_new_scheme, of_another = accepted
    assert code == pytest.ExitCode.OK, done.stdout
    assert of_the_new_scheme == of_another
    assert sorted({name.partition("::")[0] for name in of_the_new_scheme}) == modules
    assert passed[0] == pytest.ExitCode.OK, done.stdout


TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "phi3": (measured.EFFECTS["phi3"], "fp4-64"),
    "gpt2": (measured.EFFECTS["gpt2"], "fp4-64"),
    "decoding": (measured.DECODING, "fp4-64"),
    "KL": (measured.VARIANT_KL, "fp4"),
    "gate": (registered.GATED, "fp4"),
}


@pytest.mark.parametrize(("table", "key"), TABLES.values(), ids=TABLES)
def test_each_table_is_asked_for(table: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert schemes_with_thresholds() == set(registered_schemes()) == set(SCHEMES)
    monkeypatch.delitem(table, key)
    assert schemes_with_thresholds() == set(SCHEMES) - {"fp4"}
    with pytest.raises(pytest.Collector.CollectError, match=r"without figures: fp4\. Measure .* python -m tests\."):
        registered_schemes()


def test_all_schemes_without_figures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "one", INT4(32))
    monkeypatch.setitem(SCHEMES, "other", INT4(4096))
    with pytest.raises(pytest.Collector.CollectError, match="without figures: one, other"):
        registered_schemes()


def test_a_registered_scheme_can_be_asked_for_by_its_name() -> None:
    assert [name for name in SCHEMES if name not in VARIANTS] == []
