"""The way of the full Phi-3-mini and wikitext-2 from the hub, as far as it goes without either: the hub and `datasets`
are stand-ins that give the tiny model and a made-up text, and note what they are asked for.
"""

from pathlib import Path

import datasets
import huggingface_hub
import pytest
import torch

from quant.errors import QuantError
from quant.evaluate.thresholds import ThresholdFile
from quant.gated_model import GatedModel
from quant.sources import PHI_3_MINI_ID
from quant.variants import BASELINE
from tests.gpu import measuring, tables
from tests.gpu.choices import dataset_of, family, model_of
from tests.gpu.fetch import fetch
from tests.gpu.gating import hold
from tests.gpu.measuring import Run
from tests.gpu.references import limits_of
from tests.unit.conftest import words


@pytest.fixture
def asked(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the hub is asked for."""
    found: list[object] = []

    def snapshot(name: str, **_: object) -> str:
        found.append(name)
        return str(model_folder)

    # With the columns of a dataset.
    class Rows(dict[str, list[str]]):
        column_names = ("text",)

    def rows(name: str, config: str, split: str) -> Rows:
        found.append((name, config, split))
        return Rows(text=[words(100) for _ in range(10)])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(datasets, "load_dataset", rows)
    monkeypatch.setattr("quant.reference_model.FOLDER", model_folder)
    monkeypatch.setattr(measuring, "NEW", 4)
    return found


def test_without_options_it_is_phi_3_mini_on_wikitext_2(asked: list[object], tmp_path: Path) -> None:
    text = tmp_path / "wikitext-2-test.txt"
    fetch(model_of(None), dataset_of(None, None), text)
    assert PHI_3_MINI_ID in asked
    assert asked[-1] == ("Salesforce/wikitext", "wikitext-2-raw-v1", "test")
    gated = GatedModel(model_of(None), text, "cpu", ThresholdFile(tmp_path / "none.json"), dtype="float32")
    run = Run(gated, torch.device("cpu"))
    records = [run.of(scheme) for scheme in (BASELINE, "w8a16")]
    assert records[1] is run.of("w8a16")
    assert records[1].size.total_bytes < records[0].size.total_bytes
    assert records[1].measured is not None
    result = hold("w8a16", limits_of(family(None), "w8a16"), run.baseline.measurement, records[1].measured)
    assert len(result.checks) == 3
    rows = tables.table(records, family(None))
    assert rows[1].endswith("15.57 / 0.00 / 8.1272 / 3.05")
    assert rows[2].endswith("- / - / 221.07 / 3.050290")


def test_a_hub_without_the_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(QuantError, match=f"'{PHI_3_MINI_ID}' is not in the local cache and the hub cannot be reached"):
        fetch(model_of(None), None, tmp_path / "text")
