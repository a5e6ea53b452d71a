"""Memory and latency of every scheme while it generates, in the original's columns: the summary has the table.

Times are not held to anything here (tests/benchmarks holds ratios); memory is, from both sides.
"""

import pytest
import torch

from quant.variants import BASELINE
from tests.gpu import tables
from tests.gpu.measuring import NEW, SCHEMES, Run
from tests.gpu.needing import NeedsCuda

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("scheme", [BASELINE, *SCHEMES])
def test_a_generation_is_timed_and_its_memory_taken(scheme: str, run: Run, device: torch.device) -> None:
    record = run.of(scheme)
    assert len(record.generation.tokens) == NEW
    assert min(record.load_seconds, record.generation.seconds, record.generation.prefill_tokens_per_second) > 0
    assert (record.gpu_bytes > 0) == (device.type == "cuda")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_takes_less_of_the_gpu_than_the_baseline(scheme: str, run: Run, needs_cuda: NeedsCuda) -> None:
    """At least what it stores, and less than the unquantized model even where a kernel unpacks weights on the way."""
    record, baseline = run.of(scheme), run.of(BASELINE)
    assert record.size.total_bytes < baseline.size.total_bytes
    if needs_cuda("the GPU's peak memory"):
        assert record.size.total_bytes <= record.gpu_bytes < baseline.gpu_bytes


def test_the_table_has_the_originals_columns(run: Run, model_name: str) -> None:
    head, *rows = tables.table([run.of(BASELINE), run.of("nf4")], model_name)
    assert head.split()[0] == "scheme"
    assert all(column in head for column in ("CPU GB", "GPU GB", "latency s", "perplexity"))
    assert [row.split()[0] for row in rows] == [BASELINE, "nf4"]
    assert f"{run.of('nf4').perplexity:.6g}" in rows[1]
