"""The pytest plugin: hold a model's quantization to recorded thresholds, in this repository and in any other.

    def test_accuracy(quant_scheme, accuracy_gate):
        accuracy_gate(quant_scheme)

runs once for each scheme: `pytest --model ./my-model --text held_out.txt --schemes w8a16,nf4`. What is the same every
time goes into pytest's configuration as `quant_model`, `quant_text`, `quant_schemes`, `quant_thresholds`, which the
options override. `--update-thresholds` measures and writes what later runs are held to; its tests are skipped, for
nothing was judged. Budgets, which need no record, are judged all the same.

Thin: options and fixtures, the work is done in `quant.gated_model`. pytest loads this file in every run where the
package is installed, so nothing here imports torch before a test asks for a fixture; `-p no:quant` keeps it out, for
projects that have options of these names themselves.

Fails closed: an unknown scheme, an empty `--schemes` and a scheme without a threshold stop the run; a model or text
that is not there fails every test that asks for it, before anything is measured.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--model`, `--text`, `--schemes`, `--thresholds`, `--device`, `--update-thresholds`, and their settings."""
    group = parser.getgroup("quant", "quantization accuracy")
    for name, what in SETTINGS.items():
        group.addoption(f"--{name}", dest=f"quant_{name}", metavar=name.upper(), help=what)
        parser.addini(f"quant_{name}", help=what)
    group.addoption("--device", dest="quant_device", default="cpu", help="device to measure on (default: cpu)")
    group.addoption(
        "--update-thresholds",
        action="store_true",
        help="measure and write the thresholds of the schemes that tests hold, instead of holding them",
    )


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process where thresholds are written: they share a file."""
    return 0 if config.getoption("update_thresholds") else None


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to write one file from several processes."""
    if config.getoption("update_thresholds") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--update-thresholds writes one file: run it in one process, with -n 0")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`quant_scheme` is each of the schemes, all of which must have thresholds."""
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
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def accuracy_gate(gated_model: "GatedModel", pytestconfig: pytest.Config) -> "Callable[..., GateResult]":
    """Called with a scheme: quantize the model, measure it, and fail unless the verdict is pass.

    accuracy_gate(scheme, model=m) holds a model that the test has quantized itself to the threshold of `scheme`, or
    records it as that.
    accuracy_gate(scheme, max_perplexity_ratio=1.01, max_kl=0.02) holds it to these limits instead of a threshold.
    Returns the `quant.evaluate.gates.GateResult`.
    """
    from quant.errors import QuantError  # noqa: PLC0415
    from quant.evaluate.gates import Verdict  # noqa: PLC0415

    def gate(
        scheme: str, model: Any = None, max_perplexity_ratio: float | None = None, max_kl: float | None = None
    ) -> "GateResult":
        try:
            if max_perplexity_ratio is not None or max_kl is not None:
                result = gated_model.judge_budget(scheme, model, max_perplexity_ratio, max_kl)
            elif pytestconfig.getoption("update_thresholds"):
                gated_model.record(scheme, shlex.join(["pytest", *sys.argv[1:]]), model)
                pytest.skip(
                    f"the threshold of {scheme} was written to {gated_model.thresholds.path}, nothing was judged"
                )
            else:
                result = gated_model.judge(scheme, model)
        except QuantError as error:
            pytest.fail(str(error), pytrace=False)
        if result.verdict is not Verdict.PASS:
            pytest.fail(str(result), pytrace=False)
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
    from quant.gated_model import name_of  # noqa: PLC0415
    from quant.variants import OURS, check_variants  # noqa: PLC0415

    given = setting(config, "schemes")
    names = list(OURS) if given is None else [name.strip() for name in given.split(",") if name.strip()]
    model, file = _model(config), _file(config)
    try:
        check_variants(names)
        if not config.getoption("update_thresholds"):
            for name in names:
                file.read(name_of(model), name)
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
