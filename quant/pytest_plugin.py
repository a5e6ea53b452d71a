"""The pytest plugin: hold a model's quantization to recorded thresholds, in this repository and in any other.

    def test_accuracy(quant_scheme, accuracy_gate):
        accuracy_gate(quant_scheme)

runs once for each scheme: `pytest --model ./my-model --text held_out.txt --schemes w8a16,nf4`. What is the same every
time goes into pytest's configuration as `quant_model`, `quant_text`, `quant_schemes`, `quant_thresholds`, which the
options override. `--update-thresholds` measures and writes what later runs are held to; its tests are skipped, for
nothing was judged. Budgets, which need no record, are judged all the same.

Thin: options and fixtures, the work is done in `quant.gated_model`. pytest loads this file in every run where the
package is installed, so nothing here imports torch before a test asks for a fixture.

Options are registered as `--quant-model` and so on; `--model` stands for it wherever nothing else that pytest loads
before it reads its arguments has an option `--model`: plugins in any order, and conftest.py of the folders that are
named or of `testpaths`. So the short names are never registered, they are replaced in the arguments when all those are
loaded. A plugin that has an option `--quant-model` itself cannot be helped: `-p no:quant` keeps this one out.

Fails closed: an unknown scheme and an empty `--schemes` stop the run; a scheme without a threshold, and a model or text
that is not there, fail every test that asks for it, before anything is measured.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quant.gate_reports import power_of, recorded_lines, warn_of_poor_power

if TYPE_CHECKING:
    from quant.evaluate.gates import GateResult
    from quant.evaluate.thresholds import ThresholdFile
    from quant.gated_model import GatedModel

THRESHOLDS = "thresholds.json"
SETTINGS = {
    "model": "folder, hub id or `reference`, the embedded model (default)",
    "text": "UTF-8 file to measure on (default: the embedded held-out text)",
    "schemes": "schemes to hold, with commas between (default: all of this library)",
    "thresholds": f"file of thresholds (default: {THRESHOLDS} beside pytest's configuration)",
}
VALUED = ("--device", *(f"--{name}" for name in SETTINGS))
SHORT = (*VALUED, "--update-thresholds")
"""Names for options of ours that may be another's."""
WRITTEN = pytest.StashKey[dict[str, list[str]]]()
"""The names whose thresholds this run has written, and what to tell of each."""
NOT_GIVEN: Any = object()
"""No model, as opposed to None, which a helper gives that has no return."""
NO_MODEL = "model=None is no model, has its helper no return? Leave model out to measure this library's own quantizer"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quant-` with model, text, schemes, thresholds, device and update-thresholds, and the settings."""
    group = parser.getgroup("quant", "quantization accuracy")
    for name, what in SETTINGS.items():
        group.addoption(f"--quant-{name}", metavar=name.upper(), help=f"{what}; {_also(name)}")
        parser.addini(f"quant_{name}", help=what)
    group.addoption("--quant-device", default="cpu", help=f"device to measure on (default: cpu); {_also('device')}")
    group.addoption(
        "--quant-update-thresholds",
        action="store_true",
        help="measure and write the thresholds of the schemes that tests hold, instead of holding them; "
        + _also("update-thresholds"),
    )


def _also(name: str) -> str:
    return f"--{name} too, unless a conftest.py or another plugin has that option"


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Iterator[None]:
    """`--model` becomes `--quant-model` where it is nobody's, once everything that may have options is loaded.

    Before that its value looks like a folder of tests, whose conftest.py would be looked for instead of the project's.
    """
    options = args[: args.index("--")] if "--" in args else args
    folders = early_config.known_args_namespace.file_or_dir
    for name, value in pairwise(options):
        if name in VALUED and value in folders:
            folders.remove(value)
    result = yield
    free = [name for name in SHORT if _is_free(parser, name)]
    for index, argument in enumerate(options):
        name, equals, value = argument.partition("=")
        if name in free:
            args[index] = f"--quant-{name[2:]}{equals}{value}"
    return result


def _is_free(parser: pytest.Parser, name: str) -> bool:
    try:
        # With a value: an option that takes none refuses it, any other takes it, and what nobody has is left over.
        return f"{name}=0" in parser.parse_known_and_unknown_args([f"{name}=0"])[1]
    except pytest.UsageError:
        return False


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process where thresholds are written: they share a file."""
    return 0 if config.getoption("quant_update_thresholds") else None


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to write one file from several processes."""
    if config.getoption("quant_update_thresholds") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--update-thresholds writes one file: run it in one process, with -n 0")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What `--update-thresholds` wrote."""
    if written := config.stash.get(WRITTEN, {}):
        terminalreporter.section("thresholds recorded")
        for lines in written.values():
            terminalreporter.write_line("\n".join(lines))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`quant_scheme` is each of the schemes."""
    if "quant_scheme" in metafunc.fixturenames:
        metafunc.parametrize("quant_scheme", _schemes(metafunc.config))


@pytest.fixture(scope="session")
def gated_model(request: pytest.FixtureRequest) -> "GatedModel":
    """The model, its text and its thresholds (`quant.gated_model.GatedModel`), opened once a session."""
    from quant.errors import QuantError  # noqa: PLC0415
    from quant.gated_model import GatedModel  # noqa: PLC0415

    config = request.config
    text = setting(config, "text")
    try:
        return GatedModel(_model(config), Path(text) if text else None, config.getoption("quant_device"), _file(config))
    except QuantError as error:
        message = str(error)
    pytest.fail(message, pytrace=False)


@pytest.fixture
def accuracy_gate(
    gated_model: "GatedModel", pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> "Callable[..., GateResult]":
    """Called with a scheme: quantize the model, measure it, and fail unless the verdict is pass.

    accuracy_gate(name, model=m) holds a model that the test has quantized itself to the threshold of that name, or
    records it as that, once in a run. The name is free, `nf4-blocks-of-32` for instance: it is what the threshold is
    filed under.
    accuracy_gate(scheme, max_perplexity_ratio=1.01, max_kl=0.02) holds it to these limits instead of a threshold.
    Returns the `quant.evaluate.gates.GateResult`.
    """
    from quant.errors import QuantError  # noqa: PLC0415
    from quant.evaluate.gates import Verdict  # noqa: PLC0415

    written = pytestconfig.stash.setdefault(WRITTEN, {})

    def record(scheme: str, model: Any) -> None:
        if scheme in written:
            raise QuantError(
                f"the threshold of {scheme} was written by another test of this run, which stays: give each model a "
                f"name of its own, accuracy_gate('NAME', model=m)"
            )
        try:
            old = gated_model.thresholds.read(gated_model.name, scheme)
        except QuantError:  # there is none, or it is damaged and now replaced
            old = None
        gated_model.record(scheme, shlex.join(["pytest", *sys.argv[1:]]), model)
        new = gated_model.thresholds.read(gated_model.name, scheme)
        written[scheme] = recorded_lines(scheme, old, new)

    def gate(
        scheme: str, model: Any = NOT_GIVEN, max_perplexity_ratio: float | None = None, max_kl: float | None = None
    ) -> "GateResult":
        if model is None:
            pytest.fail(f"{scheme}: {NO_MODEL}", pytrace=False)
        model = None if model is NOT_GIVEN else model
        threshold = None
        try:
            if max_perplexity_ratio is not None or max_kl is not None:
                result = gated_model.judge_budget(scheme, model, max_perplexity_ratio, max_kl)
            elif pytestconfig.getoption("quant_update_thresholds"):
                record(scheme, model)
                path = gated_model.thresholds.path
                pytest.skip(f"the threshold of {scheme} was written to {path}, nothing was judged")
            else:
                result = gated_model.judge(scheme, model)
                threshold = gated_model.thresholds.read(gated_model.name, scheme)
        except QuantError as error:
            result, message = None, str(error)
        if result is None or result.verdict is not Verdict.PASS:
            pytest.fail(message if result is None else str(result), pytrace=False)
        power = [] if threshold is None else [power_of(threshold)]
        request.node.add_report_section("call", "accuracy gate", "\n".join([str(result), *power]) + "\n")
        if threshold:
            warn_of_poor_power(scheme, threshold)
        return result

    return gate


def setting(config: pytest.Config, name: str) -> str | None:
    """The option `--name`, else `quant_name` of the configuration; paths there are relative to the configuration."""
    option: str | None = config.getoption(f"quant_{name}")
    if option is not None:
        return option
    configured: str = config.getini(f"quant_{name}")
    if not configured:
        return None
    beside = _beside_configuration(config, configured)
    # A model may also be a hub id, and `reference`.
    return str(beside) if name in ("text", "thresholds") or (name == "model" and beside.is_dir()) else configured


def _schemes(config: pytest.Config) -> list[str]:
    from quant.errors import QuantError  # noqa: PLC0415
    from quant.variants import OURS, VARIANTS, check_variants  # noqa: PLC0415

    given = setting(config, "schemes")
    names = list(OURS) if given is None else [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise pytest.Collector.CollectError(
            f"--schemes (quant_schemes) names no scheme: pass some of {', '.join(VARIANTS)}, or leave it out"
        )
    try:
        check_variants(names)
    except QuantError as error:
        raise pytest.Collector.CollectError(str(error)) from error
    return names


def _model(config: pytest.Config) -> str:
    return setting(config, "model") or "reference"


def _file(config: pytest.Config) -> "ThresholdFile":
    from quant.evaluate.thresholds import ThresholdFile  # noqa: PLC0415

    return ThresholdFile(Path(setting(config, "thresholds") or _beside_configuration(config, THRESHOLDS)))


def _beside_configuration(config: pytest.Config, path: str) -> Path:
    folder = config.inipath.parent if config.inipath else config.rootpath
    return folder / path
