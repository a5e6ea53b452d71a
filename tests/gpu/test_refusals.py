"""What stops the suite in one sentence, and what is fetched; here and not in tests/unit, so that a rehearsal has run
all of tests/gpu.
"""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch

from quant.errors import QuantError
from quant.kernels import cuda
from quant.sources import PHI_3_MINI, PHI_3_MINI_ID, REFERENCE
from tests.gpu import choices
from tests.gpu.choices import DATASET, dataset_of, family, in_one_sentence, model_of, require_device, require_model
from tests.gpu.fetch import fetch_outside, main
from tests.gpu.needing import LeftOut, NeedsCuda, summary

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (None, "need a CUDA GPU and torch sees none: run pytest -m 'not gpu', or rehearse: --device cpu --model"),
        ("cuda:99", "device 'cuda:99' is not there, torch sees"),
        ("gpu", "unknown device 'gpu': use cpu, cuda, cuda:N"),
        ("meta", "device 'meta' holds no values"),
        ("auto", "--device auto is no device: tests marked gpu run on one"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(
    option: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(pytest.UsageError) as caught:
        require_device(option)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gpu_without_kernels_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product would warn, and warnings are errors."""
    for module, name in ((torch.cuda, "is_available"), (cuda, "is_usable"), (choices, "check_device")):
        monkeypatch.setattr(module, name, lambda *_, value=name != "is_usable": value)
    for option in (None, "cuda", "cuda:0"):
        with pytest.raises(pytest.UsageError, match=r"^--device cuda(:0)?: .* hold kernels that this GPU"):
            require_device(option)
    require_device("cpu")
    monkeypatch.setattr(cuda, "is_usable", lambda device: True)
    require_device("cuda")


def test_a_model_without_figures_is_one_sentence() -> None:
    with pytest.raises(pytest.UsageError, match=r"--model some/model: tests marked gpu have figures for Phi-3-mini"):
        require_model("some/model")


@pytest.mark.parametrize("option", [None, PHI_3_MINI, PHI_3_MINI_ID, "/models/Phi-3-mini-4k-instruct"])
def test_the_full_phi_3_mini_on_wikitext_2_is_the_default(option: str | None) -> None:
    assert (model_of(None), model_of(option)) == (PHI_3_MINI, option or PHI_3_MINI)
    assert family(option) == "Phi-3-mini-4k-instruct"
    assert (dataset_of(option, None), dataset_of(option, "mine.txt")) == (DATASET, None)
    assert (family(REFERENCE), dataset_of(REFERENCE, None)) == (REFERENCE, None)


def test_a_text_is_fetched_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [json.dumps({"text": text}) for text in ("one", "zwei\n")]
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "test.jsonl").write_text("\n".join(rows), encoding="utf-8")
    main([REFERENCE, "--dataset", str(folder), "--into", str(tmp_path / "text")])
    assert (tmp_path / "text").read_text(encoding="utf-8") == "one\n\nzwei\n"
    with pytest.raises(SystemExit, match="no/model"):
        main(["no/model", "--into", str(tmp_path / "text")])


@pytest.mark.parametrize("offline", ["0", "1"])
def test_it_is_fetched_with_the_hub_as_it_was_found(
    offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1", "tests must not reach the hub"

    def refused(command: list[str], env: dict[str, str], **_: object) -> SimpleNamespace:
        assert command[-1] == DATASET
        return SimpleNamespace(returncode=1, stderr=f"a warning\noffline: {env['HF_HUB_OFFLINE']}\n")

    monkeypatch.setattr(subprocess, "run", refused)
    monkeypatch.setenv("HF_HUB_OFFLINE_AS_FOUND", offline)
    with pytest.raises(QuantError, match=f"^offline: {offline}$"):
        fetch_outside(PHI_3_MINI, DATASET, tmp_path / "text")


def test_what_is_refused_fails_a_test_in_one_sentence() -> None:
    with pytest.raises(pytest.fail.Exception) as caught, in_one_sentence():
        raise QuantError("no such model")
    assert (str(caught.value), caught.value.pytrace) == ("no such model", False)


def test_places_left_out_are_listed_with_the_number_of_tests() -> None:
    left_out: list[LeftOut] = []
    needs_cuda = NeedsCuda(torch.device("cpu"), left_out)
    for _ in range(2):
        assert not needs_cuda("CUDA graphs")
    line = test_places_left_out_are_listed_with_the_number_of_tests.__code__.co_firstlineno + 4
    assert list(summary(left_out)) == [f"tests/gpu/test_refusals.py:{line}: CUDA graphs (tests: 2)"]
