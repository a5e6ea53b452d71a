"""The suite on a GPU: what it runs on, the measurements that its tests share, and what the summary tells.

A session measures each scheme once (`run`); the baseline's losses and logits are those of the plugin's `gated_model`,
which is the subject here and is opened when a test first asks.
"""

from pathlib import Path

import psutil
import pytest
import torch

from quant.evaluate.thresholds import CPU, ThresholdFile
from quant.gated_model import GatedModel
from quant.pytest_plugin import setting
from quant.variants import BASELINE
from tests.benchmarks.gating.plugin import file_storage, is_worker
from tests.benchmarks.gating.ratios import Pair
from tests.gpu import tables
from tests.gpu.choices import dataset_of, family, in_one_sentence, model_of, require_device, require_model
from tests.gpu.fetch import fetch_outside
from tests.gpu.measuring import RECORDED, Run
from tests.gpu.needing import LeftOut, NeedsCuda, summary

LEFT_OUT: pytest.StashKey[list[LeftOut]] = pytest.StashKey()
RUN: pytest.StashKey[Run] = pytest.StashKey()
THRESHOLDS = Path(__file__).with_name("thresholds.json")
"""Recorded on GPUs; the CPU's are those of tests/accuracy."""
RECORDS = "gpu.json"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop before the first test where there is nothing to run on. One of several processes cannot stop a run: there
    the fixtures say the same, in each test.

    Raises:
        pytest.UsageError: see `tests.gpu.choices`.
    """
    option = session.config.option
    stops = not option.collectonly and not is_worker(session.config)
    if stops and any(item.get_closest_marker("gpu") for item in session.items):
        require_device(option.quant_device)
        require_model(option.quant_model)


def pytest_benchmark_pairs(config: pytest.Config) -> list[Pair]:
    """Of times on a GPU only: the CPU has benchmarks of its own."""
    from tests.gpu.pairs import gpu_pairs  # noqa: PLC0415

    device = config.option.quant_device or ("cuda" if torch.cuda.is_available() else "cpu")
    return gpu_pairs() if device.startswith("cuda") else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The original's columns, in a file too; and what a rehearsal left out."""
    run, left_out = config.stash.get(RUN, None), config.stash.get(LEFT_OUT, [])
    if run is not None and BASELINE in run.records:
        _tell_measured(terminalreporter, config, run)
    if places := list(summary(left_out)):
        terminalreporter.section(f"places left out for want of GPUs: {len(places)}")
        terminalreporter.write_line("\n".join(places))


def _tell_measured(terminalreporter: pytest.TerminalReporter, config: pytest.Config, run: Run) -> None:
    model, records = family(config.option.quant_model), list(run.records.values())
    path = (file_storage(config.option.benchmark_storage) or Path()) / RECORDS
    tables.write(path, records, model, run.baseline.measurement.fingerprint)
    terminalreporter.section(f"measured: {run.gated_model}")
    terminalreporter.write_line("\n".join([*tables.table(records, model), f"in full: {path}"]))
    thresholds, name = run.gated_model.thresholds, run.gated_model.name
    never = [scheme for scheme in RECORDED if not thresholds.has(name, scheme)]
    terminalreporter.write_line(f"never recorded, and so held to the references only: {', '.join(never) or 'none'}")


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    """What the tests run on: `--device`, else the first GPU."""
    require_device(pytestconfig.option.quant_device)
    named = torch.device(pytestconfig.option.quant_device or "cuda")
    return torch.device("cuda", 0) if named == torch.device("cuda") else named


@pytest.fixture
def needs_cuda(device: torch.device, pytestconfig: pytest.Config) -> NeedsCuda:
    """Asked before lines that need a GPU, see `tests.gpu.needing`."""
    return NeedsCuda(device, pytestconfig.stash.setdefault(LEFT_OUT, []))


@pytest.fixture(scope="session")
def model_name(pytestconfig: pytest.Config) -> str:
    """What the figures of the subject are filed under."""
    return family(pytestconfig.option.quant_model)


@pytest.fixture(scope="session")
def gated_model(
    pytestconfig: pytest.Config, device: torch.device, tmp_path_factory: pytest.TempPathFactory
) -> GatedModel:
    """The subject in float32, which the original's W8A16 was measured in: bfloat16 moves losses by more than W8A16
    does. Its text, and the thresholds of this kind of device.
    """
    option = pytestconfig.option
    require_model(option.quant_model)
    model, dataset = model_of(option.quant_model), dataset_of(option.quant_model, option.quant_text)
    fetched = tmp_path_factory.mktemp("text") / "wikitext-2-test.txt"
    text = option.quant_text or (fetched if dataset else None)
    own = setting(pytestconfig, "thresholds") if device.type == CPU else option.quant_thresholds
    with in_one_sentence():
        fetch_outside(model, dataset, fetched)
        return GatedModel(
            model,
            Path(text) if text else None,
            str(device),
            ThresholdFile(Path(own or THRESHOLDS)),
            dtype="float32",
            # Wikitext-2 takes 44 GB; where they are not free, the baseline runs again beside each scheme.
            limit_bytes=psutil.virtual_memory().available // 2,
            # However the model was named: a copy on disk has the same figures.
            name=family(option.quant_model),
        )


@pytest.fixture(scope="session")
def run(gated_model: GatedModel, device: torch.device, pytestconfig: pytest.Config) -> Run:
    """What has been measured of the subject."""
    return pytestconfig.stash.setdefault(RUN, Run(gated_model, device))
