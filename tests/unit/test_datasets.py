"""Texts through the `datasets` package: read from local files, so that nothing is downloaded."""

import json
import sys
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from quant.errors import QuantError
from quant.integrations.datasets import load_dataset_text


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that `datasets` takes for a dataset: two splits of a few rows, with empty ones and a second column."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    for split, texts in {"test": ["one", "zwei\n", "", "trois"], "train": ["learn"]}.items():
        rows = [json.dumps({"id": index, "text": text}) for index, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return str(folder)


def test_the_test_split_is_joined_with_blank_lines(dataset: str) -> None:
    assert load_dataset_text(dataset) == "one\n\nzwei\n\n\n\n\ntrois"


def test_a_configuration_and_a_split_may_follow(dataset: str) -> None:
    assert load_dataset_text(f"{dataset}:default:train") == "learn"
    assert load_dataset_text(f"{dataset}::train") == "learn"
    assert load_dataset_text(f"{dataset}:default") == load_dataset_text(dataset)


@pytest.mark.parametrize(
    ("suffix", "message"),
    [(":nope", "cannot be loaded: .*nope"), ("::validation", "cannot be loaded: .*validation")],
    ids=["configuration", "split"],
)
def test_what_is_not_there_is_an_error_that_names_it(dataset: str, suffix: str, message: str) -> None:
    with pytest.raises(QuantError, match=message) as caught:
        load_dataset_text(dataset + suffix)
    assert repr(dataset + suffix) in str(caught.value)


def test_rows_without_text_are_an_error_that_lists_the_columns(dataset: str) -> None:
    (Path(dataset) / "test.jsonl").write_text('{"id": 1, "content": "one"}', encoding="utf-8")
    (Path(dataset) / "train.jsonl").unlink()
    with pytest.raises(QuantError, match="has no column 'text', only id, content"):
        load_dataset_text(dataset)


def test_a_name_that_the_cache_does_not_know_is_an_error_offline() -> None:
    assert constants.HF_HUB_OFFLINE, "tests must not reach the hub"
    with pytest.raises(QuantError, match="dataset 'no/such-data' cannot be loaded"):
        load_dataset_text("no/such-data")


def test_a_hub_that_cannot_be_reached_is_an_error_before_datasets_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would try again for minutes."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("quant.integrations.datasets.hub_reachable", lambda: False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("tried to load"))
    with pytest.raises(QuantError, match="'some/data': the hub cannot be reached: pass --text"):
        load_dataset_text("some/data")


def test_a_missing_package_is_an_error_that_says_how_to_get_it(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(QuantError, match=r"--dataset needs the datasets package: pip install 'quant\[datasets\]'"):
        load_dataset_text(dataset)
