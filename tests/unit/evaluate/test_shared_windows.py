"""A baseline whose windows several processes share: every bit as in one, whatever their number, and an error of one is
all's. Threads stand in for the processes.
"""

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.divergence import Baseline, Measurement
from quant.evaluate.processes import ALONE, Processes
from quant.evaluate.windows import TokenWindows
from tests.fakes import Bigram, Context, stream, table
from tests.unit.evaluate.meeting import run_together

VOCAB = 7
TOKENS = 61
LOGITS_BYTES = (TOKENS - 1) * VOCAB * 4


class Counted(Context):
    """Notes the shape of each call."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table)
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, ids: Tensor) -> Tensor:
        self.shapes.append(tuple(ids.shape))
        return super().predict(ids)


def measured_windows() -> TokenWindows:
    """19 windows, the last of which is shorter and so a batch of its own."""
    return TokenWindows(stream(TOKENS, VOCAB), 8, 3, bos_id=0)


def measure(
    windows: TokenWindows, batch_size: int, processes: Processes, limit_bytes: int = 1 << 30
) -> tuple[Measurement, Measurement, list[tuple[int, ...]], int, bool]:
    """Of a baseline and another model: both measurements, the shapes of the calls, the tokens that progress was told
    of, and whether the baseline is run again.
    """
    told: list[int] = []
    model, other = Counted(table(11, VOCAB, 1)), Counted(table(11, VOCAB, 2))
    baseline = Baseline(model, windows, batch_size, limit_bytes, told.append, processes)
    compared = baseline.compare(other)
    return baseline.measurement, compared, other.shapes, sum(told), baseline.keeps_model


def bits(measurement: Measurement) -> list[Any]:
    """Everything in it, floats as integers."""
    results = [measurement.losses, measurement.kl, measurement.top1]
    tensors = [tensor for tensor in results if tensor is not None]
    return [tensor.view(torch.int64 if tensor.is_floating_point() else torch.bool).tolist() for tensor in tensors]


@pytest.mark.parametrize("limit_bytes", [1 << 30, 0], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("size", "batch_size"), [(2, 1), (2, 8), (3, 3), (5, 1), (3, 100), (20, 1)])
def test_results_are_those_of_a_single_process_to_the_last_bit(
    size: int, batch_size: int, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 processes are more than there are windows, and 3 are more than the two batches of a hundred."""
    windows = measured_windows()
    baseline, compared, shapes, told, _ = measure(windows, batch_size, ALONE, limit_bytes)
    assert told == windows.scored
    outcomes = run_together(monkeypatch, size, lambda p: measure(windows, batch_size, p, limit_bytes))
    for first, second, *_ in outcomes:
        assert bits(first) == bits(baseline)
        assert bits(second) == bits(compared)
        assert torch.equal(second.window_of_token, compared.window_of_token)
        assert (first.fingerprint, second.fingerprint) == (baseline.fingerprint, compared.fingerprint)
    # A float model's logits depend on the shape of the call: the calls are the same, each made once.
    assert [shape for _, _, theirs, _, _ in outcomes for shape in theirs] == shapes
    assert sum(tokens for *_, tokens, _ in outcomes) == windows.scored


@pytest.mark.parametrize("tokens", [2, 8])
def test_one_window_is_measured_by_one_of_the_processes(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = TokenWindows(stream(tokens, VOCAB), 8)
    baseline, compared, shapes, _, _ = measure(windows, 4, ALONE)
    outcomes = run_together(monkeypatch, 3, lambda p: measure(windows, 4, p))
    assert [bits(first) + bits(second) for first, second, *_ in outcomes] == [bits(baseline) + bits(compared)] * 3
    assert sorted(theirs for _, _, theirs, _, _ in outcomes) == [[], [], shapes]


def test_the_share_of_the_tokens_is_known_before() -> None:
    """For a progress bar that ends at its end."""
    windows = measured_windows()
    assert windows.batch_count(3) == len(list(windows.batches(3))) == 7
    shares = [Processes(rank, 3).share(7) for rank in range(3)]
    scored = [windows.scored_in(3, share) for share in shares]
    assert sum(scored) == windows.scored
    # Six windows that score 3 tokens, the very first of which scores 7; six; six and the last, which scores 2.
    assert scored == [22, 18, 20]


@pytest.mark.parametrize("place", ["first share", "last share"])
def test_an_error_in_one_share_ends_all_with_its_message(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token 14 is fed first in the window that starts at 8, token 45 in the one that starts at 40."""
    windows = TokenWindows(torch.arange(50), 8)
    broken = table(50, 50)
    broken[14 if place == "first share" else 45] = math.nan
    expected = "window 1 (from token 8)" if place == "first share" else "window 5 (from token 40)"

    def baseline(processes: Processes) -> Any:
        return Baseline(Bigram(broken), windows, 1, processes=processes)

    def comparison(processes: Processes) -> Any:
        return Baseline(Bigram(table(50, 50)), windows, 1, processes=processes).compare(Bigram(broken))

    for work in (baseline, comparison):
        outcomes = run_together(monkeypatch, 3, work)
        assert [type(outcome) for outcome in outcomes] == [QuantError] * 3
        assert all(str(outcome).startswith(expected) for outcome in outcomes)


def test_processes_of_a_machine_share_the_memory_for_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """9 windows of 31 tokens and 10 of 29."""
    windows = measured_windows()
    larger = 31 * VOCAB * 4
    for limit, again in ((2 * larger, [False, False]), (2 * larger - 2, [True, False])):
        share = functools.partial(measure, windows, 1, limit_bytes=limit)
        outcomes = run_together(monkeypatch, 2, share)
        assert [keeps for *_, keeps in outcomes] == again
    assert not measure(windows, 1, ALONE, LOGITS_BYTES)[-1]
