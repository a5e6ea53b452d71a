"""The pytest plugin: hold a model's quantization to recorded thresholds, in this repository and in any other.

    def test_accuracy(quant_scheme, accuracy_gate):
        accuracy_gate(quant_scheme)

runs once for each scheme: `pytest --model=./my-model --text=held_out.txt --schemes=w8a16,nf4`. What is the same every
time goes into pytest's configuration as `quant_model`, `quant_text`, `quant_schemes`, `quant_thresholds`, which the
options override. `--update-thresholds` measures and writes what later runs are held to; its tests are skipped in the
end, for nothing has held them. Budgets, which need no record, are judged all the same.

Thin: options and fixtures, the work is done in `quant.accuracy_gate` and `quant.gated_model`. pytest loads this file in
every run where the package is installed, so nothing here imports torch before a test asks for a fixture.

Options are registered as `--quant-model` and so on; `--model` stands for it wherever nothing else that pytest loads
before it reads its arguments has an option `--model`: plugins in any order, and conftest.py of the folders that are
named or of `testpaths`. So the short names are never registered, they are replaced in the arguments when all those are
loaded. A plugin that has an option `--quant-model` itself cannot be helped: `-p no:quant` keeps this one out. Where
entry points are not loaded (PYTEST_DISABLE_PLUGIN_AUTOLOAD), `-p quant.pytest_plugin` brings all of it. A conftest.py's
`pytest_plugins` brings it after the arguments were read, so that only the long names are there.

`--model=/data/m`, not `--model /data/m`: before it asks any plugin, pytest takes every path among the arguments for
tests, and looks for its configuration in the folders around it. A path elsewhere is refused in that form.

Fails closed: an unknown scheme, an empty `--schemes` and an empty `--model` or `--text` stop the run; a scheme without
a threshold, and a model or text that is not named or not there, fail every test that asks for it, before anything is
measured.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from quant.accuracy_gate import AccuracyGate, Records
    from quant.evaluate.thresholds import ThresholdFile
    from quant.gated_model import GatedModel

THRESHOLDS = "thresholds.json"
REFERENCE = "reference"
"""The embedded model, whatever folders are called so; `quant.sources` says the same."""
SETTINGS = {
    "model": "folder, hub id or `reference`, the embedded model",
    "text": "UTF-8 file to measure on (default for `reference`: the embedded held-out text)",
    "schemes": "schemes to hold, with commas between (default: all of this library)",
    "thresholds": f"file of thresholds (default: {THRESHOLDS} beside pytest's configuration)",
}
VALUED = ("--device", *(f"--{name}" for name in SETTINGS))
LONG = tuple(f"--quant-{name[2:]}" for name in VALUED)
SHORT = (*VALUED, "--update-thresholds")
"""Names for options of ours that may be another's."""
RECORDS: "pytest.StashKey[Records]" = pytest.StashKey()
"""What this run has written."""
RECORDED = pytest.StashKey[list[str]]()
"""The names that a test would have been held to."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quant-` with model, text, schemes, thresholds, device and update-thresholds, and the settings."""
    group = parser.getgroup("quant", "quantization accuracy")
    for name, what in SETTINGS.items():
        group.addoption(f"--quant-{name}", metavar=name.upper(), help=f"{what}; {_also(name)}")
        parser.addini(f"quant_{name}", help=what)
    # No default here, so that a suite may have another one than `device_of`.
    group.addoption("--quant-device", help=f"device to measure on (default: cpu); {_also('device')}")
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
    free = [name for name in SHORT if _is_free(parser, name, options)]
    _require_own_configuration(early_config, options, (*free, *LONG))
    for index, argument in enumerate(options):
        name, equals, value = argument.partition("=")
        if name in free:
            args[index] = f"--quant-{name[2:]}{equals}{value}"
    return result


def _require_own_configuration(config: pytest.Config, options: list[str], ours: tuple[str, ...]) -> None:
    """Raises:
    pytest.UsageError: pytest has taken a value of `ours` for tests, and looked for its configuration around it.
    """
    here, known = config.invocation_params.dir, config.known_args_namespace
    for name, value in pairwise([] if known.inifilename or known.rootdir else options):
        path = (here / value).resolve()
        if name in ours and path.exists() and here not in (path, *path.parents):
            raise pytest.UsageError(
                f"pytest has taken {value} for tests and looked for its configuration there: write {name}={value}"
            )


def _is_free(parser: pytest.Parser, name: str, options: list[str]) -> bool:
    try:
        # With a value: an option that takes none refuses it, any other takes it, and what nobody has is left over.
        # With the other arguments, among which are those that somebody's option requires.
        return f"{name}=0" in parser.parse_known_and_unknown_args([f"{name}=0", *options])[1]
    except pytest.UsageError:
        return False


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process where thresholds are written: they share a file."""
    return 0 if config.getoption("quant_update_thresholds") else None


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what would hold another model than was meant, and to write one file from several processes."""
    for name in ("model", "text", "thresholds", "device"):
        if config.getoption(f"quant_{name}") == "":
            raise pytest.UsageError(f"--{name} is empty, was a variable not set? Give it a value or leave it out")
    processes = config.getoption("numprocesses", None) or config.getoption("tx", None)
    if config.getoption("quant_update_thresholds") and processes:
        raise pytest.UsageError("--update-thresholds writes one file: run it in one process, with -n 0")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What `--update-thresholds` wrote."""
    if records := config.stash.get(RECORDS, None):
        terminalreporter.section("thresholds recorded")
        terminalreporter.write_line(f"of {records.subject}")
        for written in records.written.values():
            terminalreporter.write_line("\n".join(written.lines))


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
    model, text = setting(config, "model"), setting(config, "text")
    try:
        if model is None or (text is None and model != REFERENCE):
            name = "model" if model is None else "text"
            raise QuantError(
                f"no {name} is named: pass --quant-{name} or set quant_{name} in pytest's configuration. --{name} is "
                f"taken for it only where no conftest.py and no other plugin has an option of that name"
            )
        return GatedModel(model, Path(text) if text else None, device_of(config), _file(config))
    except QuantError as error:
        message = str(error)
    pytest.fail(message, pytrace=False)


@pytest.fixture
def accuracy_gate(
    gated_model: "GatedModel", pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> "AccuracyGate":
    """Called with a scheme: quantize the model, measure it, and fail unless the verdict is pass; see
    `quant.accuracy_gate.AccuracyGate`.
    """
    from quant.accuracy_gate import AccuracyGate, Records  # noqa: PLC0415

    node = request.node
    is_recording = pytestconfig.getoption("quant_update_thresholds")
    return AccuracyGate(
        gated_model,
        lambda text: node.add_report_section("call", "accuracy gate", text),
        pytestconfig.stash.setdefault(RECORDS, Records(gated_model)) if is_recording else None,
        lambda scheme: node.stash.setdefault(RECORDED, []).append(scheme),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test whose thresholds were written is skipped after it has run to its end, and has not failed."""
    result = yield
    if schemes := item.stash.get(RECORDED, []):
        names = ", ".join(dict.fromkeys(schemes))
        path = item.config.stash[RECORDS].path
        pytest.skip(f"the threshold of {names} was written to {path}, and nothing was held to it")
    return result


def device_of(config: pytest.Config) -> str:
    """The device to measure on: `--device`, else the CPU."""
    device: str | None = config.getoption("quant_device")
    return device or "cpu"


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
    is_folder = name == "model" and configured != REFERENCE and beside.is_dir()
    return str(beside) if name in ("text", "thresholds") or is_folder else configured


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


def _file(config: pytest.Config) -> "ThresholdFile":
    from quant.evaluate.thresholds import ThresholdFile  # noqa: PLC0415

    return ThresholdFile(Path(setting(config, "thresholds") or _beside_configuration(config, THRESHOLDS)))


def _beside_configuration(config: pytest.Config, path: str) -> Path:
    folder = config.inipath.parent if config.inipath else config.rootpath
    return folder / path
