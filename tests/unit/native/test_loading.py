"""Which kernels run: what `QUANT_CPU_KERNELS` asks for, what `override` does, and what happens without the extension.

Processes of their own, since a choice is made once: one forks for each value of the variable, one finds no extension.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quant import QuantError, native
from quant.native import variants

VARIABLE = native.ENVIRONMENT_VARIABLE

CHOOSING = """
import json, os, sys, warnings
from types import SimpleNamespace
import torch
from quant import native
from quant.kernels import w8a16_linear

def outcome(value):
    "What runs a product: the number of the variant that the extension is told, None where it is not called."
    os.environ["QUANT_CPU_KERNELS"] = value
    told = []
    native.calls.kernels = SimpleNamespace(linear_int8=lambda index, *rest: told.append(index))
    try:
        w8a16_linear(torch.ones(1, 4), torch.ones(3, 4, dtype=torch.int8), torch.ones(3), None)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return told

warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: nothing has used them yet
for value in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        print(json.dumps([value, outcome(value)]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""

MISSING = """
import json, sys, warnings
sys.modules["quant.native._kernels"] = None
with warnings.catch_warnings(record=True) as at_import:
    warnings.simplefilter("always")
    import torch, quant
    from quant import native
report = {"import": [str(w.message) for w in at_import if "quant" in str(w.message)], "supported": native.supported()}
torch.manual_seed(0)
linear = torch.nn.Linear(160, 33)
x = torch.randn(5, 160)
with warnings.catch_warnings(record=True) as at_use, torch.no_grad():
    warnings.simplefilter("always")
    errors = []
    for scheme in (quant.W8A16(), quant.NF4(), quant.NF4(64, double_quant=True)):
        layer = quant.quantize(torch.nn.Sequential(linear), scheme)[0]
        expected = torch.nn.functional.linear(x.double(), layer.dequantize().weight.double(), linear.bias.double())
        errors += [(layer(x).double() - expected).abs().max().item() for _ in range(2)]
report |= {"use": [str(w.message) for w in at_use], "errors": errors}
try:
    with native.override("portable"):
        pass
except quant.QuantError as error:
    report["override"] = str(error)
print(json.dumps(report))
"""


def run(program: str, *arguments: str) -> str:
    """What the program prints, in a process where the variable is not set."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def chosen() -> dict[str, list[Any]]:
    """Value of the variable -> what ran."""
    if not native.supported():
        pytest.skip("the extension was not built")
    values = ["", *native.supported(), "torch", "fastest"]
    return dict(json.loads(line) for line in run(CHOOSING, json.dumps(values)).splitlines())


def test_the_variable_chooses_the_kernels(chosen: dict[str, list[Any]]) -> None:
    expected = {name: [index] for index, name in enumerate(native.supported())}
    assert {name: chosen[name] for name in expected} == expected


def test_by_default_the_fastest_kernels_run_and_torch_means_none(chosen: dict[str, list[Any]]) -> None:
    assert chosen[""] == [0]
    assert chosen["torch"] == []


def test_an_unknown_value_is_an_error_that_names_those_that_work(chosen: dict[str, list[Any]]) -> None:
    kind, message = chosen["fastest"]
    assert kind == "QuantError"
    assert "'fastest'" in message
    assert VARIABLE in message
    assert f"use one of {', '.join((*native.supported(), 'torch'))} " in message


@pytest.fixture(scope="module")
def missing() -> dict[str, Any]:
    """What happened in a process that cannot import the extension."""
    report: dict[str, Any] = json.loads(run(MISSING))
    return report


def test_without_the_extension_importing_quant_is_silent(missing: dict[str, Any]) -> None:
    assert missing["import"] == []
    assert missing["supported"] == []


def test_without_the_extension_the_first_use_says_once_what_to_do(missing: dict[str, Any]) -> None:
    assert len(missing["use"]) == 1
    assert "install gcc or clang and reinstall quant" in missing["use"][0]


def test_without_the_extension_layers_multiply_the_dequantized_weight(missing: dict[str, Any]) -> None:
    assert len(missing["errors"]) == 6
    assert max(missing["errors"]) < 1e-5


def test_without_the_extension_no_variant_can_be_asked_for(missing: dict[str, Any]) -> None:
    assert "use one of torch " in missing["override"]


def test_an_extension_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Built for another C library, say: that is not for want of a compiler."""

    def broken(name: str) -> None:
        raise ImportError("undefined symbol: fmaf")

    monkeypatch.setattr("quant.native.variants.importlib.import_module", broken)
    kernels, reason = variants._load()
    assert kernels is None
    assert "undefined symbol: fmaf" in reason
    assert reason != variants.NO_COMPILER


def test_an_override_ends_with_an_exception(variant: str) -> None:
    def fail() -> None:
        with native.override("torch"):
            raise ZeroDivisionError(native.variant())

    with pytest.raises(ZeroDivisionError, match="torch"):
        fail()
    assert native.variant() == variant


@pytest.mark.parametrize("name", ["fastest", "", "AVX2"])
def test_an_override_with_an_unknown_name_is_refused_and_changes_nothing(name: str, variant: str) -> None:
    with pytest.raises(QuantError, match=r"use one of .*torch"), native.override(name):
        pytest.fail("entered")
    assert native.variant() == variant


def test_an_override_decides_what_the_extension_is_told(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    spy = SimpleNamespace(linear_int8=lambda index, *rest: told.append(index))
    monkeypatch.setattr("quant.native.calls.kernels", spy)
    x, codes = torch.ones(1, 4), torch.ones(3, 4, dtype=torch.int8)
    native.linear_int8(x, codes, torch.ones(3), None, few=True)
    assert told == [native.supported().index(variant)]
