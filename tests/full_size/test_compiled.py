"""Decode steps are compiled as a whole, and a silent fallback to eager is an error."""

from pathlib import Path
from typing import Any

import pytest
import torch

from quant.integrations.transformers import quiet_transformers
from tests.full_size.compiled import measure_compiled
from tests.full_size.conftest import SIZES, task
from tests.full_size.loading import load

pytestmark = pytest.mark.usefixtures("nothing_compiled")


@pytest.fixture
def model(checkpoint: Path) -> Any:
    return load(task("compile", "w8a16", checkpoint))[0]


def test_two_graphs_without_breaks_serve_all_steps(model: Any) -> None:
    result = measure_compiled(model, SIZES, repeats=2, backend="eager")
    assert (result["graphs"], result["recompiled"]) == (2, 0)
    assert [len(repeat) for repeat in result["decode_seconds"]] == [3, 3]


def test_a_graph_break_is_an_error(model: Any) -> None:
    model.model.norm.register_forward_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(torch._dynamo.exc.Unsupported):
        measure_compiled(model, SIZES, repeats=1, backend="eager")


def test_decoding_that_was_not_compiled_is_an_error(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model), "_valid_auto_compile_criteria", lambda *_: False)
    with quiet_transformers(), pytest.raises(RuntimeError, match="into 0 graphs"):
        measure_compiled(model, SIZES, repeats=1, backend="eager")
