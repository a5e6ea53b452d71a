"""What several processes refuse to compare before a model is loaded, all of them alike. Threads stand in for them."""

import dataclasses
from pathlib import Path

import pytest

from quant.compare import compare
from quant.errors import QuantError
from quant.evaluate.processes import Processes
from quant.evaluate.windows import TokenWindows
from quant.records import Comparison, Request
from tests.unit.evaluate.meeting import run_together
from tests.unit.tiny_comparison import WINDOW, short_request

pytestmark = pytest.mark.usefixtures("single_threaded")


@pytest.fixture
def request_(model_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """Of all schemes: none is asked for by name, so that none is looked at before it is loaded."""
    monkeypatch.setattr("quant.compare.load_variant", lambda *_, **__: pytest.fail("loaded a model"))
    return dataclasses.replace(short_request(model_folder, text_file), schemes=None)


def assert_all_raise(outcomes: list[object], message: str) -> None:
    assert [type(outcome) for outcome in outcomes] == [QuantError] * len(outcomes)
    assert all(message in str(outcome) for outcome in outcomes), outcomes


@pytest.mark.parametrize(
    ("device", "message"),
    [("auto", "--device auto is for one process, and there are 2"), ("cuda", "'cuda:0' is not there")],
)
def test_a_device_that_they_cannot_have(
    device: str, message: str, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine without GPUs the first process is told, which is the one that speaks."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    request = dataclasses.replace(request_, device=device)
    assert_all_raise(run_together(monkeypatch, 2, lambda p: compare(request, processes=p)), message)


@pytest.mark.parametrize("field", ["tokens_sha256", "batch_size", "threads"])
def test_processes_that_would_measure_something_else(
    field: str, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another name's content, or another machine."""

    def run(processes: Processes) -> Comparison:
        request = request_
        if processes.rank == 2 and field == "tokens_sha256":
            request = dataclasses.replace(request, windows=TokenWindows(request.windows.ids.flip(0), WINDOW))
        if processes.rank == 2 and field == "batch_size":
            request = dataclasses.replace(request, batch_size=5)
        return compare(request, processes=processes)

    if field == "threads":
        counts = iter((1, 1, 4))
        monkeypatch.setattr("torch.get_num_threads", lambda: next(counts))
        outcomes = run_together(monkeypatch, 3, run)
        assert [type(outcome) for outcome in outcomes] == [QuantError] * 3
        assert all("they differ in threads: " in str(outcome) for outcome in outcomes)
    else:
        outcomes = run_together(monkeypatch, 3, run)
        assert_all_raise(outcomes, f"process 2 would not measure what the main process does, they differ in {field}: ")
